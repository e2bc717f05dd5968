//! A release that is tried beside the current one: who gets it, who keeps it, and when it is of no use.

use std::time::Duration;

use super::rig::{App, Setup, dead_address, field, fields, status};
use super::shop::{EMPTY, GET, Opening, app_name, counted, release, serve, short};
use crate::decision::{Asleep, Canary, Decision, Destination, ProxyDecision};
use crate::lifecycle::fleet::Refusal;

const TEN: Canary = Canary::Percent(10.0);

fn with_cookie(cookie: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n")
}

/// The pair of the gateway's cookie that an answer sets.
fn pair(head: &str) -> Option<String> {
    let cookie = fields(head, "set-cookie").into_iter();
    let mut ours = cookie.filter(|cookie| cookie.starts_with("wakegate-shop="));
    let pair = ours.next()?.split(';').next().map(str::to_owned);
    assert_eq!(ours.next(), None, "{head}");
    pair
}

fn failed(number: u32) -> Refusal {
    Refusal::Failed {
        workload: release(number).workload.clone(),
        reason: "exit code 3".into(),
        retry_after: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn with_all_and_with_none_a_cookie_is_neither_heard_nor_set() {
    for (canary, cookie, expected) in [
        (Canary::Always, "not-00000002", 2),
        (Canary::Never, "00000002", 1),
    ] {
        let shop = Opening::default().canary(canary);
        let (first, app_1, _gate_1) = shop.awake(1).await;
        let (second, app_2, _gate_2) = shop.awake(2).await;
        shop.try_out(&first, &second);
        let mut client = shop
            .asked(&with_cookie(&format!("wakegate-shop={cookie}")))
            .await;
        let (asked, other) = if expected == 1 {
            (app_1, app_2)
        } else {
            (app_2, app_1)
        };
        serve(&asked).await;
        assert!(other.is_unused());
        let (head, _) = client.message().await;
        assert_eq!((status(&head), pair(&head)), (200, None));
    }
}

#[tokio::test]
async fn a_client_keeps_the_release_that_was_drawn_for_it() {
    let shop = Opening::default().canary(Canary::Percent(50.0));
    let (first, app_1, _gate_1) = shop.awake(1).await;
    let (second, app_2, _gate_2) = shop.awake(2).await;
    shop.try_out(&first, &second);
    let mut seen = [false; 2];
    // All of 60 at one release happen once in 2^59 runs.
    for _ in 0..60 {
        let mut client = shop.asked(GET).await;
        let canary = tokio::select! {
            _ = serve(&app_1) => false,
            _ = serve(&app_2) => true,
        };
        seen[usize::from(canary)] = true;
        let not = if canary { "" } else { "not-" };
        let expected = format!("wakegate-shop={not}{}", short(2));
        let (head, _) = client.message().await;
        assert_eq!(pair(&head).as_ref(), Some(&expected));
        // With the cookie it is the same release, and is not told again.
        client.say(with_cookie(&format!("{expected}; a=1"))).await;
        let asked = if canary { &app_2 } else { &app_1 };
        let mut wire = asked.accept().await;
        assert_eq!(field(&wire.head().await, "cookie"), Some("a=1"));
        wire.say(EMPTY).await;
        assert_eq!(pair(&client.message().await.0), None);
    }
    assert_eq!(seen, [true; 2]);
}

#[tokio::test]
async fn another_trial_draws_anew_for_everybody() {
    let shop = Opening::default().canary(Canary::Percent(99.999_999));
    let (second, _app_2, _gate_2) = shop.awake(2).await;
    let (third, app_3, _gate_3) = shop.awake(3).await;
    shop.try_out(&second, &third);
    // One that the last trial left out, and one that was in it; that release is current now.
    for cookie in ["not-00000002", "00000002"] {
        let mut client = shop
            .asked(&with_cookie(&format!("wakegate-shop={cookie}")))
            .await;
        serve(&app_3).await;
        let (head, _) = client.message().await;
        assert_eq!(pair(&head).unwrap(), "wakegate-shop=00000003");
    }
}

#[tokio::test]
async fn without_a_trial_no_cookie_is_set() {
    let shop = Opening::default().canary(TEN);
    let (first, app, _gate) = shop.awake(1).await;
    shop.switch(&first);
    let mut client = shop.asked(&with_cookie("wakegate-shop=00000002")).await;
    let head = serve(&app).await;
    assert_eq!(field(&head, "cookie"), None);
    assert_eq!(pair(&client.message().await.0), None);
}

#[tokio::test]
async fn the_cookie_is_for_https_only_where_that_is_spoken_and_stands_beside_the_applications_own()
{
    let shop = Opening::default()
        .setup(|setup| {
            setup.config(|config| {
                config.public.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
            })
        })
        .canary(TEN);
    let (first, app_1, _gate_1) = shop.awake(1).await;
    let (second, app_2, _gate_2) = shop.awake(2).await;
    shop.try_out(&first, &second);
    let mut client = shop
        .asked("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    let mut wire = tokio::select! {
        wire = app_1.accept() => wire,
        wire = app_2.accept() => wire,
    };
    wire.head().await;
    wire.say("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n")
        .await;
    let (head, _) = client.message().await;
    let cookies = fields(&head, "set-cookie");
    assert_eq!(cookies[..2], ["a=1", "b=2"]);
    assert!(
        cookies[2].ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{head}"
    );
}

#[tokio::test]
async fn a_canary_that_cannot_be_woken_loses_no_request() {
    let unknown = Refusal::Unknown(release(2).workload.clone());
    for refusal in [failed(2), unknown] {
        for (canary, cookie) in [
            (Canary::Always, ""),
            (TEN, "wakegate-shop=00000002"),
            (Canary::Percent(99.999_999), ""),
        ] {
            let shop = Opening::default().canary(canary);
            let (first, app, _gate) = shop.awake(1).await;
            let second = release(2);
            shop.try_out(&first, &second);
            shop.rig.world.refuse("shop-2", refusal.clone());
            let mut client = shop
                .asked(&format!(
                    "POST / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\nContent-Length: 2\r\n\r\nhi"
                ))
                .await;
            let mut wire = app.accept().await;
            assert_eq!(wire.message().await.1, "hi");
            wire.say(EMPTY).await;
            let (head, _) = client.message().await;
            // The next request may find it well again.
            assert_eq!((status(&head), pair(&head)), (200, None));
            let told = counted(&second, |told| told.turned_over == 1).await;
            assert_eq!((told.requests, told.failed), (0, 1));
            let told = counted(&first, |told| told.requests == 1).await;
            assert_eq!((told.turned_over, told.failed), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_canary_that_fails_while_requests_wait_for_it_loses_none() {
    let shop = Opening::default().canary(Canary::Always);
    let (first, app, _gate) = shop.awake(1).await;
    let second = release(2);
    shop.try_out(&first, &second);
    let mut client = shop.asked(GET).await;
    shop.rig.world.waiters(1).await;
    counted(&second, |told| told.open.held == 1).await;
    shop.rig.world.refuse("shop-2", failed(2));
    serve(&app).await;
    assert_eq!(status(&client.message().await.0), 200);
    counted(&second, |told| {
        (told.open.held, told.turned_over, told.failed) == (0, 1, 1)
    })
    .await;
}

#[tokio::test]
async fn a_canary_that_cannot_be_reached_loses_no_request() {
    let shop = Opening::default().canary(Canary::Always);
    let (first, app, _gate) = shop.awake(1).await;
    let second = release(2);
    shop.rig.world.wake("shop-2", dead_address().await);
    shop.try_out(&first, &second);
    let mut client = shop
        .asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    let mut wire = app.accept().await;
    assert_eq!(wire.message().await.1, "hello");
    wire.say(EMPTY).await;
    assert_eq!(status(&client.message().await.0), 200);
    assert_eq!(shop.rig.world.suspects(), 1);
    let told = counted(&second, |told| told.turned_over == 1).await;
    assert_eq!((told.connect_errors, told.failed, told.requests), (1, 1, 0));
}

#[tokio::test]
async fn with_a_canary_that_sleeps_a_request_that_wakes_nothing_goes_to_the_current_release() {
    let shop = Opening::default().open(|decision| {
        decision.asleep = Asleep::Refuse;
        decision.destination = Destination::App {
            name: app_name(),
            canary: Canary::Always,
        };
    });
    let (first, app, _gate) = shop.awake(1).await;
    let second = release(2);
    shop.try_out(&first, &second);
    let mut client = shop.asked(GET).await;
    serve(&app).await;
    assert_eq!(status(&client.message().await.0), 200);
    shop.rig.world.waiters(0).await;
    // Which is no fault of it.
    let told = counted(&second, |told| told.turned_over == 1).await;
    assert_eq!(told.failed, 0);
}

#[tokio::test]
async fn a_page_waits_for_a_canary_and_is_not_shown_for_one_that_fails() {
    const NAVIGATION: &str =
        "GET / HTTP/1.1\r\nHost: h\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n\r\n";
    let shop = Opening::default().open(|decision| {
        decision.asleep = Asleep::Page;
        decision.destination = Destination::App {
            name: app_name(),
            canary: Canary::Percent(99.999_999),
        };
    });
    let (first, app, _gate) = shop.awake(1).await;
    let second = release(2);
    shop.try_out(&first, &second);
    let mut browser = shop.asked(NAVIGATION).await;
    let (head, page) = browser.message().await;
    assert!(page.contains("<h1>Waking shop</h1>"), "{page}");
    // So that the page that opens is the one that was waited for.
    assert_eq!(pair(&head).unwrap(), "wakegate-shop=00000002");
    shop.rig.world.refuse("shop-2", failed(2));
    browser.say(NAVIGATION).await;
    serve(&app).await;
    assert_eq!(status(&browser.message().await.0), 200);
}

#[tokio::test]
async fn a_trial_that_is_over_frees_who_waits_for_its_canary() {
    let shop = Opening::default().canary(Canary::Always);
    let (first, app, _gate) = shop.awake(1).await;
    let second = release(2);
    shop.try_out(&first, &second);
    let mut client = shop.asked(GET).await;
    shop.rig.world.waiters(1).await;
    shop.switch(&first);
    serve(&app).await;
    assert_eq!(status(&client.message().await.0), 200);
    // It was taken from the canary, which did not fail.
    counted(&second, |told| told.open.held == 0).await;
    assert_eq!(second.stats.snapshot().failed, 0);
}

#[tokio::test]
async fn a_container_of_the_same_name_is_no_application() {
    let rig = Setup::default()
        .rule(|_| {
            let shop = crate::names::WorkloadName::new("shop").unwrap();
            Ok(Some(Decision::Proxy(ProxyDecision::to(shop))))
        })
        .start();
    let app = App::listen().await;
    let _gate = rig.world.wake("shop", app.address);
    let mut client = rig.client().await;
    client.say(with_cookie("wakegate-shop=00000002")).await;
    let head = serve(&app).await;
    assert_eq!(field(&head, "cookie"), Some("wakegate-shop=00000002"));
    assert_eq!(pair(&client.message().await.0), None);
}
