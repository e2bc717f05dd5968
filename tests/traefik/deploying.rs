//! The original tool's clients, byte for byte as they ask, and the template that comes along.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, until};
use crate::client::{Answer, exchange};
use crate::lines;
use crate::visitor::{House, SHIPPED};
use crate::world::{LABEL, PORT};

lines![
    the_original_clients_deploy_start_list_and_delete_without_a_token,
    the_shipped_template_makes_a_container_that_traefik_routes_to,
    a_compose_files_container_is_woken_and_slept_as_it_stands,
    the_port_of_traefiks_label_is_the_gateways_too,
    what_compose_has_started_and_never_gets_ready_is_left_running,
];

/// Sends a request as a plain client does; gives the status and the JSON.
async fn call(admin: &str, head: &str, body: &str) -> (u16, Value) {
    let request = format!(
        "{head} HTTP/1.1\r\nHost: {admin}\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(admin, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status");
    let json = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}"));
    (status.parse().expect("a number"), json)
}

async fn the_original_clients_deploy_start_list_and_delete_without_a_token(
    bench: Bench,
    program: PathBuf,
) {
    // On all addresses, as it has to be for a container's published port; told to be private.
    let house = House::with(&bench, &program, &[], |setup| {
        setup
            .set("admin.listen", "0.0.0.0:0")
            .set("admin.insecure", true)
    })
    .await;
    let port = house.gateway.client.admin_address().rsplit(':').next();
    let admin = format!("127.0.0.1:{}", port.expect("a port"));
    let sample = house.routed("one");
    let name = sample.name();
    let wish = json!({
        "name": name,
        "image": bench.image(),
        "network": bench.engine().network(),
        "labels": sample.0["labels"],
        "envs": sample.0["envs"],
    });
    let (status, made) = call(&admin, "POST /deploy/", &wish.to_string()).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!(made["result"], "ok");
    assert!(bench.engine().exists(&id).await && id.len() == 64, "{id}");
    assert!(bench.runs(&id).await);

    let (status, listed) = call(&admin, "GET /deploy/", "").await;
    assert_eq!(status, 200, "{listed}");
    let instances = listed["instances"].as_array().expect("instances");
    assert_eq!(instances.len(), 1, "{listed}");
    assert_eq!(
        (&instances[0]["id"], &instances[0]["name"]),
        (&made["id"], &name.into())
    );

    // A route that Traefik takes up only after the end would be that of a container that is gone.
    house.until_awake(&sample).await;
    bench.engine().stop(&id).await;
    // Where it is not known yet that it has ended, there is nothing to start; and the route of
    // before is not to be taken for the next one.
    house.until_asleep(&sample).await;
    let (status, started) = call(&admin, &format!("PUT /deploy/{id}"), "").await;
    assert_eq!(status, 200, "{started}");
    assert_eq!(
        (&started["result"], &started["id"]),
        (&"ok".into(), &made["id"])
    );
    assert!(bench.runs(&id).await);
    // Traefik routes to what runs, and answers 502 until it listens.
    house.until_awake(&sample).await;
    assert_eq!(house.get(&sample.path("")).await.statuses(), [200]);

    let (status, removed) = call(&admin, &format!("DELETE /deploy/{name}"), "").await;
    assert_eq!(status, 200, "{removed}");
    assert_eq!(
        (&removed["result"], &removed["id"]),
        (&"ok".into(), &made["id"])
    );
    assert!(!bench.engine().exists(&id).await);
    let (_, listed) = call(&admin, "GET /deploy/", "").await;
    assert_eq!(listed, json!({ "instances": [] }));
    let (status, _) = call(&admin, &format!("DELETE /deploy/{name}"), "").await;
    assert_eq!(status, 404);
}

async fn the_shipped_template_makes_a_container_that_traefik_routes_to(
    bench: Bench,
    program: PathBuf,
) {
    // Its names are the script's own, so they have to be made this line's.
    let script = SHIPPED.replace(
        "\"minion-\" + vars.id",
        "vars.mark + \"-minion-\" + vars.id",
    );
    let script = script.replace("minionapp:latest", &bench.image());
    // Its tests are about its own names.
    let (script, _) = script.split_once("\nfn test_").expect("it has tests");
    let script = script.to_owned();
    assert!(script.contains("vars.mark"));
    let house = House::with(&bench, &program, &[], |setup| setup.script(script)).await;
    for n in 1..=5 {
        let vars = json!({ "id": n.to_string(), "mark": bench.mark(), "network": bench.engine().network() });
        let wish = json!({ "template": "minion", "vars": vars });
        let answer = house.gateway.client.post_deploy("/", &wish).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let name = format!("{}-minion-{n}", bench.mark());
        assert_eq!(answer.json()["name"], name);
        // Traefik routes to what runs, and answers 502 until it listens.
        house.gateway.client.until_phase(&name, "ready").await;
        house
            .traefik
            .until_router(&format!("{name}@docker"), true)
            .await;
        let visit = house.get(&format!("/session/{name}/x")).await;
        assert_eq!(visit.last().ok()["connstr"], format!("db {n}"));
    }
    // It asks the application whether it is there, and stops none that it does not own to stop.
    let view = house
        .gateway
        .client
        .view(&format!("{}-minion-1", bench.mark()))
        .await;
    assert_eq!(view["idle_stop_seconds"], Value::Null);
}

/// A gateway for that project's containers, behind its Traefik for `/shop`.
async fn shop_house(bench: &Bench, program: &Path, project: &str, script: &str) -> House {
    let owned = format!("com.docker.compose.project={project}");
    let house = House::with(bench, program, &[], |setup| {
        setup.script(script).set("runtime.ownership_label", owned)
    })
    .await;
    let public = &house.gateway.public;
    house.traefik.route_to_gateway(public, "/shop").await;
    house
}

/// As Compose makes it: with its own labels and Traefik's, and none of the gateway's.
async fn compose_makes(bench: &Bench, project: &str) -> String {
    compose_makes_with(bench, project, &[], &[]).await
}

/// The same with more of Traefik's labels, and ports besides the image's.
async fn compose_makes_with(
    bench: &Bench,
    project: &str,
    more: &[(&str, &str)],
    exposed: &[&str],
) -> String {
    let name = bench.name("shop");
    let rule = format!("PathPrefix(`/shop/{name}/`)");
    let labels = [
        // By which this line sees its own containers only, and clears them away.
        (LABEL, bench.mark()),
        ("com.docker.compose.project", project),
        ("com.docker.compose.service", "shop"),
        ("traefik.enable", "true"),
        ("traefik.http.routers.front.rule", rule.as_str()),
    ];
    let labels = labels.iter().chain(more);
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let exposed = exposed.iter().map(|port| (*port).to_owned());
    let body = ContainerCreateBody {
        image: Some(bench.image()),
        env: Some(vec!["CONNSTR=theirs".to_owned(), "IDLE=0".to_owned()]),
        labels: Some(labels.collect::<HashMap<_, _>>()),
        exposed_ports: Some(exposed.collect()),
        host_config: Some(HostConfig {
            network_mode: Some(bench.engine().network().to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let made = bench.engine().raw().create_container(Some(options), body);
    made.await.expect("a container").id
}

async fn a_compose_files_container_is_woken_and_slept_as_it_stands(bench: Bench, program: PathBuf) {
    let project = bench.name("project");
    let id = compose_makes(&bench, &project).await;
    // Awake for so long that a client follows before it sleeps again, however busy the machine is.
    let script = r#"
        route("/shop/{name}/{*rest}", |req| proxy(req.param("name")).asleep("redirect"));
        ready(|c| tcp());
        idle(|c| if c.label("traefik.enable") == "true" {
            stop_after("5s").unless_busy(sent_bytes())
        } else {
            never()
        });
    "#;
    let house = shop_house(&bench, &program, &project, script).await;
    let (name, path) = (
        bench.name("shop"),
        format!("/shop/{}/x", bench.name("shop")),
    );
    for round in 1..=2 {
        let visit = house.get(&format!("{path}?{round}")).await;
        assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
        assert_eq!(visit.last().ok()["connstr"], "theirs");
        let answered = house.traefik.until_answered(2 * round).await;
        assert_eq!(answered[2 * round - 1].router, "front@docker");
        house.gateway.client.until_phase(&name, "stopped").await;
        house.traefik.until_router("front@docker", false).await;
        assert!(!bench.runs(&id).await);
    }
}

/// Its image exposes more ports than the one that it listens on, or, as here, its container does.
async fn the_port_of_traefiks_label_is_the_gateways_too(bench: Bench, program: PathBuf) {
    let project = bench.name("project");
    let port = PORT.to_string();
    let label = (
        "traefik.http.services.front.loadbalancer.server.port",
        port.as_str(),
    );
    let id = compose_makes_with(&bench, &project, &[label], &["80/tcp"]).await;
    let script = r#"
        route("/shop/{name}/{*rest}", |req| proxy(req.param("name")).asleep("redirect"));
        ready(|c| tcp());
        idle(|c| never());
    "#;
    let house = shop_house(&bench, &program, &project, script).await;
    let path = format!("/shop/{}/x", bench.name("shop"));
    let visit = house.get(&path).await;
    assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
    bench.engine().stop(&id).await;
    house.traefik.until_router("front@docker", false).await;
    // Asleep again, and this time the gateway itself carries the request.
    house
        .gateway
        .client
        .until_phase(&bench.name("shop"), "stopped")
        .await;
    let url = house.traefik.url(&path);
    let request = house.visitor().request(Method::POST, &url).body("hello");
    let report = Answer::to(request).await.ok();
    assert_eq!(report["method"], "POST");
    let answered = house.traefik.until_answered(3).await;
    assert_eq!(answered[1].router, "front@docker");
    assert!(answered[2].is_gateways(), "{answered:?}");
}

/// A database of the same project, say, of which the script's `ready` rule knows nothing.
async fn what_compose_has_started_and_never_gets_ready_is_left_running(
    bench: Bench,
    program: PathBuf,
) {
    let project = bench.name("project");
    let id = compose_makes(&bench, &project).await;
    let raw = bench.engine().raw();
    let started = raw.start_container(
        &id,
        None::<bollard::query_parameters::StartContainerOptions>,
    );
    started.await.expect("it starts");
    let owned = format!("com.docker.compose.project={project}");
    let script = r#"
        route("/shop/{name}/{*rest}", |req| proxy(req.param("name")));
        ready(|c| probe("http://127.0.0.1:1/", "100ms", "1s"));
        idle(|c| never());
    "#;
    let house = House::with(&bench, &program, &[], |setup| {
        setup
            .script(script)
            .set("runtime.ownership_label", owned)
            .set("lifecycle.backoff_min", "100ms")
            .set("lifecycle.backoff_max", "200ms")
    })
    .await;
    let admin = house.gateway.client.admin_address();
    let path = format!("GET /deploy/{}", bench.name("shop"));
    // It is given up and looked at again, more than once.
    for phase in ["failed", "starting"].repeat(5) {
        until(&format!("it is {phase}"), || async {
            let (_, told) = call(admin, &path, "").await;
            assert_ne!(told["phase"], "stopping", "{told}");
            assert!(bench.runs(&id).await, "{told}");
            (told["phase"] == phase).then_some(())
        })
        .await;
    }
}
