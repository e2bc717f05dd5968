//! Containers that a request makes because they do not exist.

use futures_util::future::join_all;

use crate::bench::Bench;
use crate::lines;
use crate::scripts;

lines![
    Both a_request_makes_the_container_that_does_not_exist,
    Process a_container_is_made_again_after_it_was_removed,
    Process a_template_that_cannot_be_filled_is_502_and_makes_nothing,
    Both what_the_engine_refuses_to_make_is_503_with_the_reason_and_nothing_stays,
];

fn script(image: &str) -> String {
    let more = r#"
route("/make/{name}/{*rest}", |req| {
    let name = req.param("name");
    proxy(name).create("made", #{ name: name, kind: req.query("kind") })
});
template("made", |vars| {
    if vars.kind == "bad" { throw "not that kind" }
    #{
        name: if vars.kind == "other" { "another-name" } else { vars.name },
        image: if vars.kind == "no-image" { "wakegate-test-no-such-image:1" } else { "IMAGE" },
        labels: #{ "healthcheck": "http://" + vars.name + ":9000/status" },
        envs: #{ CONNSTR: "made for " + vars.name, IDLE: "5m" },
    }
});
"#;
    scripts::shipped_and(&more.replace("IMAGE", image))
}

async fn a_request_makes_the_container_that_does_not_exist(bench: Bench) {
    let gateway = bench.setup().script(script(&bench.image())).start().await;
    let name = bench.name("made");
    let path = format!("/make/{name}/x");
    let answers = join_all((0..5).map(|_| gateway.client.get(&path))).await;
    for answer in answers {
        assert_eq!(answer.ok()["connstr"], format!("made for {name}"));
    }
    let view = gateway.client.view(&name).await;
    let id = view["id"].as_str().expect("an id");
    bench.has_started(id, 1).await;
}

async fn a_container_is_made_again_after_it_was_removed(bench: Bench) {
    let gateway = bench.setup().script(script(&bench.image())).start().await;
    let name = bench.name("made");
    let path = format!("/make/{name}/x");
    let mut ids = Vec::new();
    for _ in 0..2 {
        gateway.client.get(&path).await.ok();
        ids.push(gateway.client.view(&name).await["id"].clone());
        let request = gateway
            .client
            .admin(reqwest::Method::DELETE, &format!("/deploy/{name}"));
        crate::client::Answer::to(request).await.ok();
        assert!(!bench.exists(&name).await);
    }
    assert_ne!(ids[0], ids[1]);
}

async fn a_template_that_cannot_be_filled_is_502_and_makes_nothing(bench: Bench) {
    let gateway = bench.setup().script(script(&bench.image())).start().await;
    let name = bench.name("made");
    for (kind, said) in [("bad", "not that kind"), ("other", "another-name")] {
        let answer = gateway
            .client
            .get(&format!("/make/{name}/x?kind={kind}"))
            .await;
        answer.problem(502, "script_failed");
        let line = gateway.log.line_with(answer.header("wakegate-error")).await;
        assert!(line.contains(said), "{line}");
        assert!(!bench.exists(&name).await);
        assert!(!bench.exists("another-name").await);
    }
    gateway.client.get(&format!("/make/{name}/x")).await.ok();
}

async fn what_the_engine_refuses_to_make_is_503_with_the_reason_and_nothing_stays(bench: Bench) {
    let gateway = bench.setup().script(script(&bench.image())).start().await;
    let name = bench.name("made");
    let answer = gateway
        .client
        .get(&format!("/make/{name}/x?kind=no-image"))
        .await;
    let problem = answer.problem(503, "start_failed");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("wakegate-test-no-such-image:1"), "{detail}");
    assert!(answer.retry_after().as_secs() >= 1);
    assert!(!bench.exists(&name).await);
    gateway.client.get(&format!("/make/{name}/x")).await.ok();
}
