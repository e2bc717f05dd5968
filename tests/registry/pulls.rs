//! Pulls: with progress, with what can be wrong, with credentials, and given up.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use libtest_mimic::Trial;
use wakegate::config::Secret;
use wakegate::runtime::credentials::{Credentials, RegistryCredentials};
use wakegate::runtime::{PullProgress, Runtime, RuntimeError};

use crate::bench::{Bench, From, LIMIT, trial};
use crate::registries::{MUCH, PASSWORD, Registry, USER, Way};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_pull_brings_the_image_that_was_pushed", brings),
        trial("a_pull_by_digest_brings_that_very_image", by_digest),
        trial(
            "progress_is_told_while_it_goes_on_and_not_too_often",
            progress,
        ),
        trial("what_the_registry_does_not_have_is_not_found", not_found),
        trial("a_registry_that_is_stopped_is_unreachable", stopped),
        trial("a_registry_with_passwords_wants_the_right_one", passwords),
        trial("what_docker_login_writes_is_understood", docker_login),
        trial("a_pull_that_is_dropped_ends_on_the_engine_too", dropped),
    ]
}

fn nothing(_: PullProgress) {}

async fn brings(bench: Bench) {
    let registry = bench.registry().await;
    let shop = bench.publish(&registry, From::Program, 100_000).await;
    let docker = &bench.docker;
    assert_eq!(docker.image(&shop.reference).await, Ok(None));
    docker.pull(&shop.reference, None, &nothing).await.unwrap();
    assert_eq!(
        bench.engines_id(&shop.reference).await,
        Some(shop.id.clone())
    );
    let facts = docker.image(&shop.reference).await.unwrap().unwrap();
    assert_eq!(facts.id, shop.id);
    let size = ["image", "inspect", "--format", "{{.Size}}", &shop.reference];
    let size = String::from_utf8(bench.docker_command(&size).await).unwrap();
    assert_eq!(facts.size_bytes, size.trim().parse().ok());
    // By its id too, and once more.
    assert_eq!(docker.image(&shop.id).await, Ok(Some(facts)));
    docker.pull(&shop.reference, None, &nothing).await.unwrap();
    // It is the whole image: it can be run.
    let run = ["run", "--rm", &shop.reference, "print"];
    let printed = bench.docker_command(&run).await;
    assert!(printed.starts_with(b"line 1\nline 2\n"));
}

async fn by_digest(bench: Bench) {
    let registry = bench.registry().await;
    let shop = bench.publish(&registry, From::Scratch, 1_000).await;
    let docker = &bench.docker;
    docker.pull(&shop.reference, None, &nothing).await.unwrap();
    let digest = [
        "image",
        "inspect",
        "--format",
        "{{index .RepoDigests 0}}",
        &shop.reference,
    ];
    let by_digest = String::from_utf8(bench.docker_command(&digest).await).unwrap();
    let by_digest = by_digest.trim();
    assert!(by_digest.contains("@sha256:"), "{by_digest}");
    bench.docker_command(&["rmi", "--force", &shop.id]).await;
    let by_both = by_digest.replace('@', ":1@");
    for reference in [by_digest, &by_both] {
        docker.pull(reference, None, &nothing).await.unwrap();
        assert_eq!(bench.engines_id(by_digest).await, Some(shop.id.clone()));
        let facts = docker.image(reference).await.unwrap();
        assert_eq!(facts.map(|facts| facts.id), Some(shop.id.clone()));
        // It has no name but this.
        assert_eq!(bench.engines_id(&shop.reference).await, None);
        assert_eq!(docker.remove_image(reference).await, Ok(true));
        assert_eq!(bench.engines_id(&shop.id).await, None);
    }
}

async fn progress(bench: Bench) {
    let registry = bench.registry().await;
    let bytes = 4 << 20;
    let shop = bench.publish(&registry, From::Program, bytes).await;
    // At least 64 pieces with a pause before each: more than three seconds.
    let way = Way::to(&registry, Duration::from_millis(50)).await;
    let reference = shop.reference.replace(&registry.host(), &way.host());
    let told = Mutex::new(Vec::new());
    let tell = |progress| told.lock().unwrap().push((Instant::now(), progress));
    bench.docker.pull(&reference, None, &tell).await.unwrap();
    assert_eq!(bench.engines_id(&reference).await, Some(shop.id));

    let told = told.into_inner().unwrap();
    let (first, last) = (&told[0].1, &told[told.len() - 1].1);
    assert_eq!((first.bytes_done, first.bytes_total), (0, 0));
    assert_eq!(last.line, "2 layers are there");
    assert_eq!(last.bytes_done, last.bytes_total);
    // What is sent is packed; random bytes do not get smaller, and the base was there.
    assert!(
        (bytes as u64..bytes as u64 * 2).contains(&last.bytes_total),
        "{last:?}"
    );
    assert!(told.is_sorted_by_key(|(_, progress)| progress.bytes_done));
    let on_the_way = |it: &PullProgress| it.bytes_done > 0 && it.bytes_done < it.bytes_total;
    assert!(
        told.iter().any(|(_, progress)| on_the_way(progress)),
        "{told:?}"
    );
    assert!(
        told.iter().all(|(_, progress)| progress.line.len() < 80),
        "{told:?}"
    );
    let between = told.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let mut but_the_last = between.take(told.len() - 2);
    assert!(
        but_the_last.all(|time| time >= Duration::from_millis(249)),
        "{told:?}"
    );
}

async fn not_found(bench: Bench) {
    let registry = bench.registry().await;
    let shop = bench.publish(&registry, From::Scratch, 1_000).await;
    let nobodys = format!("sha256:{}", "0".repeat(64));
    for reference in [
        shop.reference.replace("shop:1", "shop:2"),
        shop.reference.replace("shop:1", "shop"),
        shop.reference.replace("shop:1", "denied:unauthorized"),
        shop.reference.replace("shop:1", &format!("shop@{nobodys}")),
    ] {
        let pulled = bench.docker.pull(&reference, None, &nothing).await;
        assert_eq!(pulled, Err(RuntimeError::ImageNotFound(reference.clone())));
        assert_eq!(bench.engines_id(&reference).await, None);
    }
    for reference in ["", "Not An Image", "localhost:5000/Shop:1", &shop.id] {
        let pulled = bench.docker.pull(reference, None, &nothing).await;
        let is_refused = matches!(pulled, Err(RuntimeError::Refused(_)));
        assert!(is_refused, "{reference}: {pulled:?}");
    }
}

async fn stopped(bench: Bench) {
    let registry = bench.registry().await;
    let shop = bench.publish(&registry, From::Scratch, 1_000).await;
    bench
        .docker
        .pull(&shop.reference, None, &nothing)
        .await
        .unwrap();
    registry.stop().await;
    match bench.docker.pull(&shop.reference, None, &nothing).await {
        Err(RuntimeError::RegistryUnreachable(words)) => assert!(
            words.starts_with(&shop.reference) && words.contains("connection refused"),
            "{words}"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        bench.engines_id(&shop.reference).await,
        Some(shop.id),
        "it stays"
    );
}

async fn passwords(bench: Bench) {
    let open = bench.registry().await;
    let shop = bench.publish(&open, From::Scratch, 1_000).await;
    let registry = Registry::start(&bench.storage(), true).await;
    let reference = shop.reference.replace(&open.host(), &registry.host());
    let pull = async |credentials: Option<&RegistryCredentials>| {
        bench.docker.pull(&reference, credentials, &nothing).await
    };
    match pull(None).await {
        Err(RuntimeError::RegistryDenied(words)) => assert!(
            words.contains(&reference) && words.contains("without credentials"),
            "{words}"
        ),
        other => panic!("{other:?}"),
    }
    let wrong = RegistryCredentials::Password {
        username: USER.to_owned(),
        password: Secret("hunter2".to_owned()),
    };
    match pull(Some(&wrong)).await {
        Err(RuntimeError::RegistryDenied(words)) => {
            assert!(
                !words.contains("hunter2") && !words.contains("without credentials"),
                "{words}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.engines_id(&reference).await, None);

    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = serde_json::json!({"auths": {registry.host(): {"auth": auth}}});
    let file = Credentials::read(file.to_string().as_bytes()).unwrap();
    let right = file.for_image(&reference.parse().unwrap()).unwrap();
    // Or else this would not show that the engine gets them in the alphabet that it reads.
    let header = right.unwrap().to_header(&registry.host());
    assert!(header.contains(['-', '_']), "{header}");
    pull(right).await.unwrap();
    assert_eq!(bench.engines_id(&reference).await, Some(shop.id));
    let missing = reference.replace("shop:1", "shop:2");
    let pulled = bench.docker.pull(&missing, right, &nothing).await;
    assert_eq!(pulled, Err(RuntimeError::ImageNotFound(missing)));
}

async fn docker_login(bench: Bench) {
    let open = bench.registry().await;
    let shop = bench.publish(&open, From::Scratch, 1_000).await;
    let registry = Registry::start(&bench.storage(), true).await;
    let reference = shop.reference.replace(&open.host(), &registry.host());
    let folder = bench.folder.path().join("docker-config");
    let (host, login) = (
        registry.host(),
        ["--config", folder.to_str().unwrap(), "login"],
    );
    let login = [&login[..], &["-u", USER, "-p", PASSWORD, &host]].concat();
    bench.docker_command(&login).await;
    let file = std::fs::read(folder.join("config.json")).unwrap();
    let file = Credentials::read(&file).unwrap();
    let credentials = file.for_image(&reference.parse().unwrap()).unwrap();
    assert!(credentials.is_some());
    assert_eq!(file.for_image(&shop.reference.parse().unwrap()), Ok(None));
    bench
        .docker
        .pull(&reference, credentials, &nothing)
        .await
        .unwrap();
    assert_eq!(bench.engines_id(&reference).await, Some(shop.id));
}

async fn dropped(bench: Bench) {
    let registry = bench.registry().await;
    let bytes = 8 << 20;
    let shop = bench.publish(&registry, From::Scratch, bytes).await;
    // At least 128 pieces with a pause before each: more than six seconds.
    let mut way = Way::to(&registry, Duration::from_millis(50)).await;
    let reference = shop.reference.replace(&registry.host(), &way.host());
    let pull = tokio::spawn({
        let (docker, reference) = (bench.docker.clone(), reference.clone());
        async move { docker.pull(&reference, None, &nothing).await }
    });
    let brought = way.brought.wait_for(|brought| *brought > MUCH);
    tokio::time::timeout(LIMIT, brought).await.unwrap().unwrap();
    pull.abort();
    let given_up = way.given_up.wait_for(Option::is_some);
    let given_up = tokio::time::timeout(LIMIT, given_up).await.unwrap();
    assert!(given_up.unwrap().unwrap() < bytes, "it was all brought");
    assert_eq!(bench.engines_id(&reference).await, None);
    // Nothing of it is in the way of the next one.
    let next = bench.docker.pull(&shop.reference, None, &nothing).await;
    assert_eq!(next, Ok(()));
    assert_eq!(bench.engines_id(&shop.reference).await, Some(shop.id));
}
