//! What scripts can decide about a request, seen by the client and by the application.

use reqwest::Method;

use crate::bench::{Bench, until};
use crate::client::Answer;
use crate::lines;
use crate::scripts;

lines![
    Process a_browser_that_comes_to_a_sleeping_page_waits_on_a_page,
    Process a_page_that_cannot_be_woken_says_why,
    Process a_redirect_when_asleep_comes_when_it_is_awake,
    Process a_refusal_when_asleep_wakes_nothing,
    Process a_script_redirects_and_responds_by_itself,
    Process paths_and_headers_are_changed_as_the_script_says,
    Process an_unknown_container_is_404_in_the_scripts_words,
    Process what_no_route_matches_is_404,
    Process a_script_that_fails_is_502_with_an_id_and_the_log_says_where,
    Process a_script_that_runs_for_ever_is_stopped,
    Process scripts_that_use_up_their_limits_stall_nobody_else,
    Process an_on_error_that_fails_leaves_the_built_in_answer,
    Process a_decision_may_hold_shorter_and_time_out_sooner,
];

const ROUTES: &str = r#"
route("/page/{name}/{*rest}", |req| proxy(req.param("name")).asleep("page"));
route("/again/{name}/{*rest}", |req| proxy(req.param("name")).asleep("redirect"));
route("/refuse/{name}/{*rest}", |req| proxy(req.param("name")).asleep("refuse"));
route("/old/{*rest}", |req| redirect(308, "/new/" + req.param("rest")).header("x-by", "script"));
route("/teapot", |req| respond(418, "short and stout").header("x-by", "script").retry_after("90s"));
route("/strip/{name}/{*rest}", |req| proxy(req.param("name")).strip(2));
route("/fixed/{name}", |req| proxy(req.param("name")).path("/fixed/path"));
route("/headers/{name}/", |req| {
    proxy(req.param("name"))
        .set_request_header("x-tenant", "seven")
        .drop_request_header("x-secret")
        .set_header("x-by", "script")
        .drop_header("content-type")
});
route("/fails/{n}", |req| {
    let n = req.param("n");
    respond(200, n.no_such_property)
});
route("/loops", |req| { loop { } });
route("/hasty/{name}/{*rest}", |req| proxy(req.param("name")).wait("200ms").timeout("300ms"));
"#;

async fn a_browser_that_comes_to_a_sleeping_page_waits_on_a_page(bench: Bench) {
    let setup = bench.setup().script(scripts::shipped_and(ROUTES));
    let gateway = crate::waking::gated(&bench, setup).start().await;
    let sample = bench.sample("one").with("image", crate::waking::GATED);
    let id = gateway.client.create(&sample).await;
    let path = format!("/page/{}/x", sample.name());
    for _ in 0..2 {
        let page = gateway.client.navigate(&path).await;
        assert_eq!(page.status, 503);
        assert!(page.header("content-type").starts_with("text/html"));
        assert_eq!(page.header("cache-control"), "no-store");
        let text = page.text();
        assert!(
            text.contains("refresh") && text.contains(sample.name()),
            "{text}"
        );
    }
    // A page's own request for data is held, as a page would be of no use to it.
    let data = {
        let (client, path) = (gateway.client.clone(), path.clone());
        tokio::spawn(async move { client.get(&path).await })
    };
    until("it is held", || async {
        (gateway.client.view(sample.name()).await["waiting"] == 1).then_some(())
    })
    .await;
    crate::waking::open_gate(&bench);
    data.await.expect("an answer").ok();
    assert_eq!(gateway.client.navigate(&path).await.ok()["path"], path);
    bench.has_started(&id, 1).await;
}

async fn a_page_that_cannot_be_woken_says_why(bench: Bench) {
    let setup = bench.setup().script(scripts::shipped_and(ROUTES));
    let gateway = setup.set("lifecycle.backoff_min", "50s").start().await;
    let sample = bench
        .sample("one")
        .env("BOOT_DELAY", "1h")
        .env("CRASH_AFTER", "50ms");
    gateway.client.create(&sample).await;
    let path = format!("/page/{}/x", sample.name());
    gateway.client.navigate(&path).await;
    gateway.client.until_phase(sample.name(), "failed").await;
    let page = gateway.client.navigate(&path).await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("code 1"), "{}", page.text());
    assert!(page.retry_after().as_secs() > 10);
    let none = gateway.client.navigate("/page/nobody-there/x").await;
    assert_eq!(
        (none.status, none.text().as_str()),
        (404, "there is no container nobody-there\n")
    );
}

async fn a_redirect_when_asleep_comes_when_it_is_awake(bench: Bench) {
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(ROUTES))
        .start()
        .await;
    let rule = "traefik.http.routers.one.rule";
    let sample = bench
        .sample("one")
        .env("BOOT_DELAY", "300ms")
        .label(rule, "PathPrefix(`/again`)");
    gateway.client.create(&sample).await;
    let path = format!("/again/{}/a%20b?c=d&e=%2F", sample.name());
    let again = gateway.client.get(&path).await;
    assert_eq!(
        (again.status, again.header("location")),
        (307, path.as_str())
    );
    assert_eq!(again.header("cache-control"), "no-store");
    assert_eq!(gateway.client.phase(sample.name()).await, "ready");
    assert_eq!(gateway.client.get(&path).await.ok()["query"], "c=d&e=%2F");
    // What nobody else has a route to is forwarded.
    let sample = bench.sample("two");
    gateway.client.create(&sample).await;
    let path = format!("/again/{}/", sample.name());
    assert_eq!(gateway.client.get(&path).await.ok()["connstr"], "db two");
}

async fn a_refusal_when_asleep_wakes_nothing(bench: Bench) {
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(ROUTES))
        .start()
        .await;
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    let path = format!("/refuse/{}/", sample.name());
    gateway
        .client
        .get(&path)
        .await
        .problem(503, "refused_asleep");
    assert_eq!(gateway.client.phase(sample.name()).await, "stopped");
    assert_eq!(bench.starts(&id).await, 0);
    gateway.client.wake(sample.name()).await;
    assert_eq!(gateway.client.get(&path).await.ok()["path"], path);
}

async fn a_script_redirects_and_responds_by_itself(bench: Bench) {
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(ROUTES))
        .start()
        .await;
    let moved = gateway.client.get("/old/a/b").await;
    assert_eq!((moved.status, moved.header("location")), (308, "/new/a/b"));
    assert_eq!(moved.header("x-by"), "script");
    let tea = gateway.client.get("/teapot").await;
    assert_eq!((tea.status, tea.text().as_str()), (418, "short and stout"));
    assert_eq!(
        (tea.header("x-by"), tea.header("retry-after")),
        ("script", "90")
    );
}

async fn paths_and_headers_are_changed_as_the_script_says(bench: Bench) {
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(ROUTES))
        .start()
        .await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let name = sample.name();
    let report = gateway
        .client
        .get(&format!("/strip/{name}/a%2Fb/c?d"))
        .await
        .ok();
    assert_eq!(
        (&report["path"], &report["query"]),
        (&"/a%2Fb/c".into(), &"d".into())
    );
    let report = gateway.client.get(&format!("/fixed/{name}?d")).await.ok();
    assert_eq!(
        (&report["path"], &report["query"]),
        (&"/fixed/path".into(), &"d".into())
    );
    let request = gateway
        .client
        .request(Method::GET, &format!("/headers/{name}/"));
    let request = request
        .header("x-secret", "no")
        .header("x-tenant", "one")
        .header("x-own", "yes");
    let answer = Answer::to(request).await;
    let headers = &answer.ok()["headers"];
    assert_eq!(headers["x-tenant"], serde_json::json!(["seven"]));
    assert_eq!(headers["x-own"], serde_json::json!(["yes"]));
    assert_eq!(headers.get("x-secret"), None);
    assert_eq!(answer.header("x-by"), "script");
    assert!(!answer.headers.contains_key("content-type"));
}

async fn an_unknown_container_is_404_in_the_scripts_words(bench: Bench) {
    let gateway = bench.setup().start().await;
    let answer = gateway.client.get("/session/nobody-there/x").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "there is no container nobody-there\n")
    );
    let answer = gateway.client.get("/session/a%2Fb/x").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "no container has such a name\n")
    );
}

async fn what_no_route_matches_is_404(bench: Bench) {
    let gateway = bench.setup().start().await;
    gateway
        .client
        .get("/favicon.ico")
        .await
        .problem(404, "no_route");
    let page = gateway.client.navigate("/favicon.ico").await;
    assert_eq!(page.status, 404);
    assert!(page.header("content-type").starts_with("text/html"));
}

async fn a_script_that_fails_is_502_with_an_id_and_the_log_says_where(bench: Bench) {
    let script = scripts::shipped_and(ROUTES);
    let line_at = 1 + script
        .lines()
        .position(|line| line.contains("no_such_property"))
        .expect("it");
    let gateway = bench.setup().script(script).start().await;
    let answer = gateway.client.get("/fails/3").await;
    let problem = answer.problem(502, "script_failed");
    let id = answer.header("wakegate-error");
    assert_eq!(problem["instance"], id);
    assert!(
        !answer.text().contains("no_such_property"),
        "that is nobody's business"
    );
    let line = gateway.log.line_with(&format!("request {id}")).await;
    assert!(line.contains("ERROR"), "{line}");
    assert!(line.contains(&format!("session.rhai:{line_at}:")), "{line}");
    let shown = "respond(200, n.no_such_property)";
    gateway.log.line_with(shown).await;
    // The rest goes on.
    assert_eq!(gateway.client.get("/teapot").await.status, 418);
}

async fn a_script_that_runs_for_ever_is_stopped(bench: Bench) {
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(ROUTES))
        .start()
        .await;
    for _ in 0..4 {
        let answer = gateway.client.get("/loops").await;
        answer.problem(502, "script_failed");
        let request = format!("request {}", answer.header("wakegate-error"));
        let line = gateway.log.line_with(&request).await;
        assert!(line.contains("session.rhai:"), "{line}");
    }
    assert_eq!(gateway.client.get("/teapot").await.status, 418);
}

async fn scripts_that_use_up_their_limits_stall_nobody_else(bench: Bench) {
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(ROUTES))
        .start()
        .await;
    // As many that loop as the gateway has workers at the most, one after the other without a pause.
    let looping = async {
        let mut looped = 0;
        loop {
            let answers = (0..4).map(|_| gateway.client.get("/loops"));
            for answer in futures_util::future::join_all(answers).await {
                answer.problem(502, "script_failed");
                looped += 1;
            }
            tokio::task::yield_now().await;
            if looped >= 10_000 {
                return looped;
            }
        }
    };
    let others = async {
        for _ in 0..50 {
            assert_eq!(gateway.client.get("/teapot").await.status, 418);
        }
    };
    tokio::select! {
        looped = looping => panic!("nobody else was answered beside {looped} loops"),
        () = others => {}
    }
}

async fn an_on_error_that_fails_leaves_the_built_in_answer(bench: Bench) {
    let script =
        scripts::idle_by_label() + "on_error(|req, err| respond(err.no_such_thing, \"\"));";
    let gateway = bench.setup().script(script).start().await;
    let answer = gateway.client.get("/session/nobody-there/x").await;
    answer.problem(404, "unknown_workload");
    let id = answer.header("wakegate-error");
    until("the log tells where", || async {
        let lines = gateway.log.lines_with(id);
        lines
            .iter()
            .any(|line| line.contains("session.rhai:"))
            .then_some(())
    })
    .await;
}

async fn a_decision_may_hold_shorter_and_time_out_sooner(bench: Bench) {
    let setup = bench.setup().script(scripts::shipped_and(ROUTES));
    let gateway = crate::waking::gated(&bench, setup).start().await;
    let sample = bench.sample("one").with("image", crate::waking::GATED);
    gateway.client.create(&sample).await;
    let path = |rest: &str| format!("/hasty/{}/{rest}", sample.name());
    gateway
        .client
        .get(&path(""))
        .await
        .problem(504, "hold_timeout");
    crate::waking::open_gate(&bench);
    gateway.client.until_phase(sample.name(), "ready").await;
    gateway
        .client
        .get(&path("slow?ms=600000"))
        .await
        .problem(504, "upstream_timeout");
    // Given up by the gateway, and so by the application.
    until("the lease is back", || async {
        (gateway.client.view(sample.name()).await["leases"] == 0).then_some(())
    })
    .await;
}
