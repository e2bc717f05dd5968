//! Images from an executable, and networks.

use std::sync::{Arc, Mutex};

use bollard::models::NetworkCreateRequest;
use libtest_mimic::Trial;
use wakegate::runtime::docker::CONTENT_LABEL;
use wakegate::runtime::{Runtime, RuntimeError};

use crate::bench::{Bench, label, random, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_image_is_imported_once_for_each_content", import),
        trial("an_import_that_cannot_be_says_why", bad_imports),
        trial("a_network_is_made_once_and_only_ours_is_removed", networks),
    ]
}

async fn import(bench: Bench) {
    let docker = &bench.docker;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, vec![b'x'; 1_000_000]).unwrap();
    let name = format!("{}:2", random("wakegate-test"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let import = || {
        let told = told.clone();
        let progress = move |done, total| told.lock().unwrap().push((done, total));
        docker.import_image(&program, &name, &["/bin/program", "serve"], 8080, progress)
    };
    assert_eq!(docker.image(&name).await, Ok(None));
    assert_eq!(import().await, Ok(true));
    assert_eq!(told.lock().unwrap().last(), Some(&(1_000_000, 1_000_000)));
    assert!(docker.image(&name).await.unwrap().is_some());
    let first = bench.raw.inspect_image(&name).await.unwrap();
    let config = first.config.unwrap();
    assert_eq!(config.entrypoint.unwrap(), ["/bin/program", "serve"]);
    assert_eq!(config.exposed_ports.unwrap(), ["8080/tcp"]);
    assert_eq!(config.labels.unwrap()[CONTENT_LABEL].len(), 64);

    told.lock().unwrap().clear();
    assert_eq!(import().await, Ok(false));
    assert!(told.lock().unwrap().is_empty(), "nothing was sent");

    std::fs::write(&program, "another").unwrap();
    assert_eq!(import().await, Ok(true));
    let second = bench.raw.inspect_image(&name).await.unwrap();
    assert_ne!(first.id, second.id);
    let first_id = first.id.unwrap();
    assert_eq!(
        docker.image(&first_id).await,
        Ok(None),
        "the older one goes"
    );

    assert_eq!(docker.remove_image(&name).await, Ok(true));
    assert_eq!(docker.remove_image(&name).await, Ok(true));
    assert_eq!(docker.image(&name).await, Ok(None));
}

async fn bad_imports(bench: Bench) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let import = |name: &'static str, entrypoint: &'static [&'static str]| {
        bench
            .docker
            .import_image(&program, name, entrypoint, 80, |_, _| {})
    };
    match import("wakegate-test", &["/program"]).await {
        Err(RuntimeError::Failed(message)) => assert!(message.contains("cannot read"), "{message}"),
        other => panic!("{other:?}"),
    }
    std::fs::write(&program, "x").unwrap();
    for (name, entrypoint) in [
        ("wakegate-test", &[][..]),
        ("wakegate-test", &["program"]),
        ("wakegate-test@sha256:00", &["/program"]),
        ("Not An Image", &["/program"]),
    ] {
        let refused = import(name, entrypoint).await;
        let is_refused = matches!(
            refused,
            Err(RuntimeError::Refused(_) | RuntimeError::Failed(_))
        );
        assert!(is_refused, "{name} {entrypoint:?}: {refused:?}");
    }
}

async fn networks(bench: Bench) {
    let docker = &bench.docker;
    let name = random("wakegate-test");
    assert_eq!(docker.ensure_network(&name).await, Ok(true));
    assert_eq!(docker.ensure_network(&name).await, Ok(false));
    let made = bench.raw.inspect_network(&name, None).await.unwrap();
    assert_eq!(made.attachable, Some(true));
    assert_eq!(made.driver.as_deref(), Some("bridge"));
    docker.remove_network(&name).await.unwrap();
    docker.remove_network(&name).await.unwrap();
    assert_eq!(bench.networks().await, [""; 0]);

    let request = NetworkCreateRequest {
        name: name.clone(),
        labels: Some([label("someone-else")].into()),
        ..NetworkCreateRequest::default()
    };
    bench.raw.create_network(request).await.unwrap();
    let refused = docker.remove_network(&name).await;
    bench.raw.remove_network(&name).await.unwrap();
    assert!(
        matches!(refused, Err(RuntimeError::Refused(_))),
        "{refused:?}"
    );
}
