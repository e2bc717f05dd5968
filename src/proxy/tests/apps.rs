//! Requests for an application: its door, its current release, and changes of both under way.

use std::time::Duration;

use http::StatusCode;

use super::rig::{App, LIMIT, Setup, dead_address, field, status};
use super::shop::{EMPTY, GET, Opening, SHORT, Shop, app_name, release, serve, until};
use crate::decision::{Asleep, Decision, HeaderEdits, ProxyDecision, Reply};
use crate::deploy::route::{AppLimits, Current, Door};
use crate::lifecycle::fleet::Refusal;
use crate::names::AppName;
use crate::traefik::Routed;

const NAVIGATION: &str =
    "GET /x HTTP/1.1\r\nHost: h\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n\r\n";

#[tokio::test]
async fn a_request_goes_to_the_current_release_and_is_told_by_its_container() {
    let shop = Shop::open();
    let (first, app, gate) = shop.awake(1).await;
    shop.switch(&first);
    let mut client = shop
        .asked("GET /a?b HTTP/1.1\r\nHost: h\r\nCookie: wakegate-shop=00000001; a=1\r\n\r\n")
        .await;
    let head = serve(&app).await;
    assert!(head.starts_with("GET /a?b "), "{head}");
    assert_eq!(field(&head, "cookie"), Some("a=1"));
    let (head, _) = client.message().await;
    assert_eq!(status(&head), 200);
    assert_eq!(field(&head, "set-cookie"), None);
    until(|| gate.leases() == 0).await;
    shop.rig
        .metric(
            "wakegate_requests_total{workload=\"shop-1\",route=\"/the/{route}\",status=\"2xx\"} 1",
        )
        .await;
}

#[tokio::test]
async fn an_application_that_nobody_knows_is_not_found() {
    let nobody = AppName::new("nobody").unwrap();
    let rig = Setup::default()
        .rule(move |_| Ok(Some(Decision::Proxy(ProxyDecision::to_app(nobody.clone())))))
        .start();
    let mut client = rig.client().await;
    client.say(GET).await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 404);
    assert!(body.contains("\"kind\":\"unknown_app\""), "{body}");
    assert!(body.contains("there is no application"), "{body}");
}

#[tokio::test]
async fn requests_are_held_while_it_is_not_known_which_release_is_current() {
    let shop = Shop::open();
    let mut client = shop
        .asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    shop.held(1).await;
    shop.rig
        .metric("wakegate_held_requests{workload=\"\",route=\"/the/{route}\"} 1")
        .await;
    let (first, app, _gate) = shop.awake(1).await;
    shop.switch(&first);
    let mut app = app.accept().await;
    assert_eq!(app.message().await.1, "hello");
    app.say(EMPTY).await;
    assert_eq!(status(&client.message().await.0), 200);
    assert_eq!(shop.app.held(), 0);
    shop.rig
        .metric("wakegate_held_requests{workload=\"\",route=\"/the/{route}\"} 0")
        .await;
}

#[tokio::test]
async fn a_release_that_is_not_known_in_time_is_a_hold_that_is_over() {
    let shop = Opening::default().open(|decision| decision.wait = Some(SHORT));
    let mut client = shop.asked(GET).await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 504);
    assert!(body.contains("\"kind\":\"hold_timeout\""), "{body}");
    assert!(body.contains("\"app\":\"shop\""), "{body}");
    shop.held(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_at_the_door_up() {
    let shop = Shop::open();
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        for door in [Door::Open, Door::Paused] {
            shop.app.set_door(door);
            let client = shop.asked(request).await;
            shop.held(1).await;
            drop(client);
            shop.held(0).await;
        }
    }
}

#[tokio::test]
async fn without_a_release_the_reason_is_told() {
    let shop = Shop::open();
    shop.app
        .set_route(Current::Nothing("nothing was launched yet".into()), None);
    let mut client = shop.asked(GET).await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 503);
    assert!(body.contains("\"kind\":\"no_release\""), "{body}");
    assert!(body.contains("nothing was launched yet"), "{body}");
}

#[tokio::test]
async fn during_maintenance_all_are_told_when_to_come_again_and_nothing_is_woken() {
    let shop = Shop::open();
    shop.switch(&release(1));
    shop.app.set_door(Door::Maintenance);
    let mut client = shop.asked(GET).await;
    let (head, body) = client.message().await;
    assert_eq!(
        (status(&head), field(&head, "retry-after")),
        (503, Some("60"))
    );
    assert_eq!(field(&head, "cache-control"), Some("no-store"));
    assert!(body.contains("\"kind\":\"maintenance\""), "{body}");
    assert!(body.contains("\"app\":\"shop\""), "{body}");
    client.say(NAVIGATION).await;
    let (head, page) = client.message().await;
    assert_eq!(
        (status(&head), field(&head, "content-type")),
        (503, Some("text/html; charset=utf-8"))
    );
    assert!(page.contains("is down for maintenance."), "{page}");
    shop.rig.world.waiters(0).await;
    assert_eq!(shop.rig.world.nudges(), 0);
}

#[tokio::test]
async fn scripts_have_their_own_words_for_maintenance() {
    let shop = Opening::default()
        .setup(|setup| {
            setup.on_error(|error| {
                assert_eq!((&*error.kind, &*error.app), ("maintenance", "shop"));
                Ok(Some(Reply {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    body: format!("back in {:?}", error.retry_after_secs).into(),
                    retry_after: None,
                    headers: HeaderEdits::default(),
                }))
            })
        })
        .open(|_| {});
    shop.app.set_door(Door::Maintenance);
    let (_, body) = shop.asked(GET).await.message().await;
    assert_eq!(body, "back in Some(60)");
}

#[tokio::test]
async fn a_pause_holds_requests_until_it_is_over() {
    let shop = Shop::open();
    let (first, app, _gate) = shop.awake(1).await;
    shop.switch(&first);
    shop.app.set_door(Door::Paused);
    let mut clients = [
        shop.asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
            .await,
        shop.asked(GET).await,
    ];
    shop.held(2).await;
    // Another release during the pause changes nothing but where they go then.
    let (second, app_2, _gate_2) = shop.awake(2).await;
    shop.switch(&second);
    shop.held(2).await;
    assert!(app.is_unused() && app_2.is_unused());
    shop.app.set_door(Door::Open);
    for _ in 0..2 {
        let mut wire = app_2.accept().await;
        let (head, body) = wire.message().await;
        assert_eq!(body == "hi", head.starts_with("POST "));
        wire.say(EMPTY).await;
    }
    for client in &mut clients {
        assert_eq!(status(&client.message().await.0), 200);
    }
    assert!(app.is_unused());
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_told_and_ends_alone() {
    for (pause_max, wait) in [(SHORT, LIMIT), (LIMIT, SHORT)] {
        let limits = AppLimits {
            pause_max,
            held_max: 1,
        };
        let shop = Opening {
            limits,
            ..Opening::default()
        }
        .open(move |decision| decision.wait = Some(wait));
        let (first, app, _gate) = shop.awake(1).await;
        shop.switch(&first);
        shop.app.set_door(Door::Paused);
        let (head, body) = shop.asked(GET).await.message().await;
        assert_eq!(
            (status(&head), field(&head, "retry-after")),
            (503, Some("5"))
        );
        assert!(body.contains("\"kind\":\"paused\""), "{body}");
        assert!(app.is_unused());
        shop.held(0).await;
    }
}

#[tokio::test]
async fn held_requests_have_limits_of_one_application_and_of_all() {
    for (own, all) in [(2, 100), (100, 2)] {
        let limits = AppLimits {
            pause_max: LIMIT,
            held_max: own,
        };
        let shop = Opening {
            limits,
            held_max: all,
            ..Opening::default()
        }
        .open(|_| {});
        shop.app.set_door(Door::Paused);
        let _held = [shop.asked(GET).await, shop.asked(GET).await];
        shop.held(2).await;
        let (head, body) = shop.asked(GET).await.message().await;
        assert_eq!(
            (status(&head), field(&head, "retry-after")),
            (503, Some("1"))
        );
        assert!(body.contains("\"kind\":\"queue_full\""), "{body}");
    }
}

#[tokio::test]
async fn who_waits_for_a_wake_waits_at_the_door_when_it_closes() {
    let shop = Shop::open();
    let first = release(1);
    shop.switch(&first);
    let mut client = shop.asked(GET).await;
    shop.rig.world.waiters(1).await;
    shop.app.set_door(Door::Paused);
    shop.held(1).await;
    shop.rig.world.waiters(0).await;
    // Also one that is awake by now is not asked.
    let app = App::listen().await;
    shop.rig.world.wake("shop-1", app.address);
    shop.app.set_door(Door::Maintenance);
    let (head, _) = client.message().await;
    assert_eq!(status(&head), 503);
    assert!(app.is_unused());
}

#[tokio::test]
async fn who_waits_for_a_sleeping_release_gets_the_one_that_is_switched_to() {
    let shop = Shop::open();
    shop.switch(&release(1));
    let mut clients = [
        shop.asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
            .await,
        shop.asked(GET).await,
    ];
    shop.rig.world.waiters(2).await;
    shop.switch(&release(2));
    shop.rig.world.waiters(2).await;
    let old = App::listen().await;
    shop.rig.world.wake("shop-1", old.address);
    let app = App::listen().await;
    shop.rig.world.wake("shop-2", app.address);
    for _ in 0..2 {
        let mut wire = app.accept().await;
        wire.message().await;
        wire.say(EMPTY).await;
    }
    for client in &mut clients {
        assert_eq!(status(&client.message().await.0), 200);
    }
    assert!(old.is_unused());
}

#[tokio::test]
async fn a_refusal_by_a_release_that_is_no_longer_current_is_nobodys() {
    let shop = Shop::open();
    let (second, app, _gate) = shop.awake(2).await;
    shop.switch(&release(1));
    let client = shop.asked(GET).await;
    shop.rig.world.waiters(1).await;
    shop.switch(&second);
    shop.rig
        .world
        .refuse("shop-1", Refusal::Unknown(release(1).workload.clone()));
    let mut client = client;
    serve(&app).await;
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn another_attempt_goes_to_the_release_that_is_current_by_then() {
    let shop = Shop::open();
    let first = release(1);
    shop.rig.world.wake("shop-1", dead_address().await);
    shop.switch(&first);
    let (second, app, _gate) = shop.awake(2).await;
    let route = shop.app.clone();
    shop.rig.world.on_suspect(move |_, workload| {
        assert_eq!(workload.as_str(), "shop-1");
        route.set_route(Current::Release(second.clone()), None);
    });
    let mut client = shop
        .asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    let mut app = app.accept().await;
    assert_eq!(app.message().await.1, "hello");
    app.say(EMPTY).await;
    assert_eq!(status(&client.message().await.0), 200);
    assert_eq!(shop.rig.world.suspects(), 1);
}

#[tokio::test]
async fn what_was_to_be_sent_on_goes_with_its_whole_body_to_the_release_that_is_current_by_then() {
    let shop = Opening::default().open(|decision| {
        decision.asleep = Asleep::Redirect;
        decision.follows = true;
    });
    shop.rig.world.route(None);
    let (second, app, _gate) = shop.awake(2).await;
    shop.switch(&release(1));
    let mut client = shop
        .asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    shop.rig.world.waiters(1).await;
    let (_first, _app, _gate) = shop.awake(1).await;
    shop.rig.world.route_awaited().await;
    shop.switch(&second);
    shop.rig.world.route(Some(Routed::Yes));
    let mut app = app.accept().await;
    assert_eq!(app.message().await.1, "hello");
    app.say(EMPTY).await;
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn requests_under_way_end_at_the_release_that_they_began_with() {
    let shop = Shop::open();
    let (first, app_1, gate_1) = shop.awake(1).await;
    let (second, app_2, _gate) = shop.awake(2).await;
    shop.switch(&first);
    let mut slow = shop.asked(GET).await;
    let mut wire = app_1.accept().await;
    wire.head().await;
    shop.switch(&second);
    let mut quick = shop.asked(GET).await;
    serve(&app_2).await;
    assert_eq!(status(&quick.message().await.0), 200);
    assert_eq!(gate_1.leases(), 1);
    wire.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        .await;
    assert_eq!(slow.message().await.1, "old");
    until(|| gate_1.leases() == 0).await;
}

#[tokio::test]
async fn a_page_tells_of_the_application_and_not_of_its_container() {
    let shop = Opening::default().open(|decision| decision.asleep = Asleep::Page);
    shop.switch(&release(1));
    let mut browser = shop.asked(NAVIGATION).await;
    let (head, page) = browser.message().await;
    assert_eq!(status(&head), 503);
    assert!(page.contains("<h1>Waking shop</h1>"), "{page}");
    assert_eq!(shop.rig.world.nudges(), 1);
    shop.rig.world.refuse(
        "shop-1",
        Refusal::Failed {
            workload: release(1).workload.clone(),
            reason: "exit code 3".into(),
            retry_after: Duration::from_secs(7),
        },
    );
    browser.say(NAVIGATION).await;
    let (_, page) = browser.message().await;
    assert!(page.contains("<h1>shop cannot be started</h1>"), "{page}");
    assert!(page.contains("Exit code 3."), "{page}");
}

#[tokio::test]
async fn a_sleeping_release_can_be_redirected_to_or_refused() {
    let shop = Opening::default().open(|decision| decision.asleep = Asleep::Redirect);
    shop.switch(&release(1));
    let mut client = shop.asked(GET).await;
    shop.rig.world.waiters(1).await;
    let app = App::listen().await;
    let gate = shop.rig.world.wake("shop-1", app.address);
    let (head, _) = client.message().await;
    assert_eq!((status(&head), field(&head, "location")), (307, Some("/")));
    assert!(app.is_unused() && gate.leases() == 0);

    let shop = Opening::default().open(|decision| decision.asleep = Asleep::Refuse);
    shop.switch(&release(1));
    let (head, body) = shop.asked(GET).await.message().await;
    assert_eq!(status(&head), 503);
    assert!(body.contains("\"kind\":\"refused_asleep\""), "{body}");
    shop.rig.world.waiters(0).await;
}

#[tokio::test]
async fn a_problem_names_application_and_container() {
    let shop = Shop::open();
    shop.switch(&release(1));
    shop.rig.world.refuse(
        "shop-1",
        Refusal::QueueFull {
            workload: release(1).workload.clone(),
            retry_after: Duration::from_secs(1),
        },
    );
    let (_, body) = shop.asked(GET).await.message().await;
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["app"], app_name().as_str());
    assert_eq!(problem["workload"], "shop-1");
}
