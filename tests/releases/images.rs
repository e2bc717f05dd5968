//! Where images come from: a registry by the usual name, an archive in the store, or what the engine has.

use bytes::BytesMut;
use futures_util::StreamExt;
use serde_json::json;

use crate::bench::until;
use crate::between::Between;
use crate::lines;
use crate::seen;
use crate::servers::Registry;
use crate::stage::{APP, Stage, start};

lines![
    Registry an_image_is_pulled_by_the_applications_name_and_the_revision,
    Registry what_the_registry_has_anew_is_pulled_when_that_is_said,
    Registry a_release_keeps_its_container_when_its_image_has_become_another_one,
    Registry images_whose_name_has_moved_on_are_removed_with_their_containers,
    Registry a_failed_launch_gives_a_name_back_to_the_image_that_had_it,
    Registry an_image_that_the_registry_does_not_have_is_missing,
    Registry while_the_registry_is_away_a_launch_fails_and_the_current_release_serves_on,
    Registry a_registry_with_a_password_is_asked_with_the_credentials_of_the_file,
    Registry the_status_tells_whether_the_registry_answers,
    Docker an_image_is_loaded_from_an_archive_in_the_store,
    Docker an_archive_that_is_none_or_not_there_is_told,
];

async fn has_image(stage: &Stage, name: &str) -> bool {
    stage.engine().raw().inspect_image(name).await.is_ok()
}

async fn an_image_is_pulled_by_the_applications_name_and_the_revision(stage: Stage) {
    let registry = Registry::start(stage.dir());
    let base = stage.bench().image();
    let image = registry.take(&stage, &base, APP, "42").await;
    assert_eq!(image, format!("{}/shop:42", registry.name));
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    assert!(!has_image(&stage, &image).await);
    let release = stage.release("42").without("image");
    let hash = api.stored(&release).await;
    let launched = api.launch(&hash).await.ok();
    assert_eq!(launched["image"], image);
    assert!(has_image(&stage, &image).await);
    let made = seen::container(stage.bench(), &release.container()).await;
    assert_eq!(made.expect("it is there").image, image);
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "42");
}

/// The digest that the registry's image has on the engine.
async fn id_of(stage: &Stage, name: &str) -> String {
    let found = stage.engine().raw().inspect_image(name).await;
    found.expect("an image").id.expect("an id")
}

async fn what_the_registry_has_anew_is_pulled_when_that_is_said(stage: Stage) {
    let registry = Registry::start(stage.dir());
    let base = stage.bench().image();
    let image = registry.take(&stage, &base, APP, "latest").await;
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    // The engine has another image of that name: one with one more label.
    let other = crate::keeping::image_of_its_own(&stage, "other").await;
    let options = bollard::query_parameters::TagImageOptionsBuilder::default()
        .repo(&format!("{}/shop", registry.name))
        .tag("latest")
        .build();
    let tagged = stage.engine().raw().tag_image(&other, Some(options)).await;
    tagged.expect("a tag");
    let there = id_of(&stage, &image).await;
    let missing = stage.release("one").with("image", image.as_str());
    api.deployed(&missing).await;
    assert_eq!(id_of(&stage, &image).await, there);
    let always = stage
        .release("two")
        .with("image", image.as_str())
        .with("pull", "always");
    api.deployed(&always).await;
    assert_eq!(id_of(&stage, &image).await, id_of(&stage, &base).await);
    assert_eq!(api.answering().await, "two");
}

/// The image's name in a registry that has another image of that name from now on; gives its id.
async fn pushed(stage: &Stage, registry: &Registry, mark: &str) -> String {
    let other = crate::keeping::image_of_its_own(stage, mark).await;
    let id = id_of(stage, &other).await;
    // It may have lost its name by the end.
    stage.note_image(&id);
    registry.take(stage, &other, APP, "latest").await;
    // Only the registry has it: the engine is to pull it.
    let options = bollard::query_parameters::RemoveImageOptionsBuilder::default().build();
    let removed = stage
        .engine()
        .raw()
        .remove_image(&other, Some(options), None);
    removed.await.expect("it is removed");
    assert!(!has_image(stage, &id).await);
    id
}

async fn a_release_keeps_its_container_when_its_image_has_become_another_one(stage: Stage) {
    let mut registry = Registry::start(stage.dir());
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (gateway, api) = start(&setup).await;
    let image = format!("{}/shop:latest", registry.name);
    let old = pushed(&stage, &registry, "old").await;
    let release = stage.release("one").with("image", image.as_str());
    let hash = api.deployed(&release.with("pull", "always")).await;
    let made = seen::names(stage.bench()).await;
    let again = api.launch(&hash).await.ok();
    assert_eq!(
        (&again["existing"], &again["warnings"]),
        (&true.into(), &json!([]))
    );

    // The engine has it under the name of the one before.
    let new = pushed(&stage, &registry, "new").await;
    let options = bollard::query_parameters::TagImageOptionsBuilder::default()
        .repo(&format!("{}/shop", registry.name))
        .tag("latest")
        .build();
    let tagged = stage.engine().raw().tag_image(&old, Some(options)).await;
    tagged.expect("a tag");
    let again = api.launch(&hash).await.ok();
    let warning = again["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.starts_with(&format!("{image} is another image by now"))
            && warning.contains(&made[0]),
        "{again}"
    );
    let file = setup.file();
    let ran = setup
        .clone()
        .env("WAKEGATE_ADMIN_LISTEN", gateway.client.admin_address())
        .run(&[
            "launch",
            "shop",
            &hash,
            "--config",
            file.to_str().expect("UTF-8"),
        ])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = format!("warning: {warning}");
    assert!(ran.err.contains(&told), "{ran:?}");
    assert_eq!(id_of(&stage, &image).await, old);
    until("what was pulled is gone", || async {
        (!has_image(&stage, &new).await).then_some(())
    })
    .await;

    registry.end();
    let again = api.launch(&hash).await.ok();
    let warning = again["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("it is not known whether"), "{again}");
    assert_eq!(seen::names(stage.bench()).await, made);
    assert_eq!(api.answering().await, "one");
}

async fn images_whose_name_has_moved_on_are_removed_with_their_containers(stage: Stage) {
    let registry = Registry::start(stage.dir());
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str())
        .set("apps.shop.keep", 0)
        .set("apps.shop.rollback_watch", "1s");
    let (_gateway, api) = start(&setup).await;
    let image = format!("{}/shop:latest", registry.name);
    let mut ids = Vec::new();
    for mark in ["one", "two", "three"] {
        ids.push(pushed(&stage, &registry, mark).await);
        let release = stage.release(mark).with("image", image.as_str());
        api.deployed(&release.with("pull", "always")).await;
    }
    assert_eq!(id_of(&stage, &image).await, ids[2]);
    until("the oldest image is gone", || async {
        (!has_image(&stage, &ids[0]).await).then_some(())
    })
    .await;
    // The previous release can be gone back to.
    assert!(has_image(&stage, &ids[1]).await);
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "two");
}

async fn a_failed_launch_gives_a_name_back_to_the_image_that_had_it(stage: Stage) {
    let registry = Registry::start(stage.dir());
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    let image = format!("{}/shop:latest", registry.name);
    let good = pushed(&stage, &registry, "good").await;
    let release = stage.release("good").with("image", image.as_str());
    api.deployed(&release).await;
    assert_eq!(id_of(&stage, &image).await, good);
    let bad = pushed(&stage, &registry, "bad").await;
    // Pushing has taken the name from it.
    let options = bollard::query_parameters::TagImageOptionsBuilder::default()
        .repo(&format!("{}/shop", registry.name))
        .tag("latest")
        .build();
    let tagged = stage.engine().raw().tag_image(&good, Some(options));
    tagged.await.expect("a tag");
    let failing = stage
        .release("bad")
        .with("image", image.as_str())
        .with("pull", "always")
        .env("FAIL_STATUS", "503")
        .health("timeout", "1s");
    let hash = api.stored(&failing).await;
    api.launch(&hash).await.problem(422, "not_healthy");
    assert_eq!(id_of(&stage, &image).await, good);
    until("the image of the failed launch is gone", || async {
        (!has_image(&stage, &bad).await).then_some(())
    })
    .await;
    assert_eq!(api.answering().await, "good");
}

async fn an_image_that_the_registry_does_not_have_is_missing(stage: Stage) {
    let registry = Registry::start(stage.dir());
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    let old = stage.release("old");
    api.deployed(&old).await;
    let hash = api.stored(&stage.release("43").without("image")).await;
    let problem = api.launch(&hash).await.problem(422, "image_missing");
    let name = format!("{}/shop:43", registry.name);
    assert!(problem["detail"].to_string().contains(&name), "{problem}");
    assert_eq!(api.answering().await, "old");
    assert_eq!(seen::names(stage.bench()).await, [old.container()]);
}

async fn while_the_registry_is_away_a_launch_fails_and_the_current_release_serves_on(stage: Stage) {
    let mut registry = Registry::start(stage.dir());
    let base = stage.bench().image();
    registry.take(&stage, &base, APP, "44").await;
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let release = stage.release("44").without("image");
    let hash = api.stored(&release).await;
    registry.end();
    let problem = api.launch(&hash).await.problem(503, "registry_unreachable");
    assert!(
        problem["detail"].to_string().contains(&registry.name),
        "{problem}"
    );
    assert_eq!(api.answering().await, "old");
    assert_eq!(api.status().await["current"], old_hash);
    assert_eq!(seen::names(stage.bench()).await, [old.container()]);
    registry.come_back();
    api.launch(&hash).await.ok();
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "44");
}

async fn a_registry_with_a_password_is_asked_with_the_credentials_of_the_file(stage: Stage) {
    // ada:secret
    const ALLOWED: &str = "Basic YWRhOnNlY3JldA==";
    let registry = Registry::start(stage.dir());
    let base = stage.bench().image();
    registry.take(&stage, &base, APP, "45").await;
    let server = registry.name.replace("localhost", "127.0.0.1");
    let between = Between::before_closed(&server, Some(ALLOWED)).await;
    let name = format!("localhost:{}", between.address.port());
    let image = format!("{name}/shop:45");
    stage.note_image(&image);
    let file = stage.dir().join("credentials.json");
    let write = |auth: &str| {
        let text = json!({ "auths": { name.clone(): { "auth": auth } } });
        std::fs::write(&file, text.to_string()).expect("a file");
    };
    // ada:wrong
    write("YWRhOndyb25n");
    let setup = stage
        .setup()
        .set("apps.shop.registry", name.as_str())
        .set("apps.shop.registry_credentials", "credentials.json");
    let (_gateway, api) = start(&setup).await;
    let hash = api.stored(&stage.release("45").without("image")).await;
    let refused = api.launch(&hash).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains(&image), "{}", refused.text());
    assert!(!refused.text().contains("wrong"), "{}", refused.text());
    // It is read at each pull.
    write("YWRhOnNlY3JldA==");
    api.launch(&hash).await.ok();
    assert!(has_image(&stage, &image).await);
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "45");
}

async fn the_status_tells_whether_the_registry_answers(stage: Stage) {
    let mut registry = Registry::start(stage.dir());
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    let status = api.until("it is told as up", |status| {
        status["registry"]["state"] == "up"
    });
    assert_eq!(status.await["registry"]["place"], registry.name.as_str());
    registry.end();
    let status = api.until("it is told as down", |status| {
        status["registry"]["state"] == "down"
    });
    assert!(status.await["registry"]["reason"].as_str().is_some());
}

async fn an_image_is_loaded_from_an_archive_in_the_store(stage: Stage) {
    let image = crate::keeping::image_of_its_own(&stage, "archived").await;
    let raw = stage.engine().raw();
    let mut archive = BytesMut::new();
    let mut parts = raw.export_image(&image);
    while let Some(part) = parts.next().await {
        archive.extend_from_slice(&part.expect("a part of it"));
    }
    drop(parts);
    let options = bollard::query_parameters::RemoveImageOptionsBuilder::default().force(true);
    raw.remove_image(&image, Some(options.build()), None)
        .await
        .expect("it is removed");
    stage.shelf().put("images/shop.tar", &archive).await;
    let (_gateway, api) = stage.start().await;
    let release = stage
        .release("one")
        .with("image", image.as_str())
        .with("archive", "images/shop.tar");
    assert!(!has_image(&stage, &image).await);
    api.deployed(&release).await;
    assert_eq!(api.answering().await, "one");
    assert!(has_image(&stage, &image).await);
    let made = seen::container(stage.bench(), &release.container()).await;
    assert_eq!(made.expect("it is there").image, image);
}

async fn an_archive_that_is_none_or_not_there_is_told(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let release = |key: &str| {
        stage
            .release("new")
            .with("image", "nobody/has:this")
            .with("archive", key)
    };
    let hash = api.stored(&release("images/none.tar")).await;
    let problem = api.launch(&hash).await.problem(422, "unknown_archive");
    assert!(
        problem["detail"].to_string().contains("images/none.tar"),
        "{problem}"
    );
    stage
        .shelf()
        .put("images/text.tar", b"this is no archive")
        .await;
    let hash = api.stored(&release("images/text.tar")).await;
    let answer = api.launch(&hash).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    for outside in ["../outside.tar", "/etc/passwd"] {
        let answer = api.store(release(outside).bytes()).await;
        let refused = match answer.status {
            201 => {
                let hash = answer.json()["hash"].as_str().expect("a hash").to_owned();
                api.launch(&hash).await
            }
            _ => answer,
        };
        assert_eq!(refused.status, 422, "{outside}: {}", refused.text());
    }
    until("nothing is left of it", || async {
        (seen::names(stage.bench()).await == [old.container()]).then_some(())
    })
    .await;
    assert_eq!(api.status().await["current"], old_hash);
    assert_eq!(api.answering().await, "old");
    let failed = api.status().await["failed_launches"].clone();
    assert_ne!(failed, json!([]));
}
