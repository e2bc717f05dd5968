//! Which releases stay: the current one, so many before it, and never one that is needed.

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions,
};
use serde_json::json;

use crate::api::Api;
use crate::bench::until;
use crate::configuration::Configuration;
use crate::lines;
use crate::seen;
use crate::servers::Registry;
use crate::stage::{APP, Stage, start};
use crate::world::LABEL;

lines![
    Process switching_to_a_release_that_is_not_the_newest_does_not_stop_it,
    Both so_many_releases_as_said_stay_asleep_and_older_ones_are_removed,
    Process with_keep_zero_the_previous_release_stays_all_the_same,
    Docker images_of_removed_releases_are_removed_after_them_and_shared_ones_stay,
    Docker an_image_that_somebody_else_uses_stays,
    Docker releases_that_had_to_be_left_push_out_none_that_can_be_gone_back_to,
    Registry a_current_release_whose_container_and_image_are_removed_comes_back,
    Process a_removed_release_can_be_launched_again,
    Process a_release_that_was_launched_and_not_switched_to_survives_other_switches,
];

async fn switching_to_a_release_that_is_not_the_newest_does_not_stop_it(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let [one, two, three] = ["one", "two", "three"].map(|revision| stage.release(revision));
    let first = api.deployed(&one).await;
    let second = api.deployed(&two).await;
    api.launched(&three).await;
    // From the second back to the first, while a third and newest is launched.
    api.launch(&first).await.ok();
    api.switched(&first).await;
    api.until_phase(&second, "stopped").await;
    for _ in 0..20 {
        assert_eq!(api.answering().await, "one");
    }
    assert!(
        seen::container(stage.bench(), &one.container())
            .await
            .expect("it is there")
            .runs
    );
    assert_eq!(stage.shelf().current_hash().await, first);
    let there = seen::names(stage.bench()).await;
    for release in [&one, &two, &three] {
        assert!(there.contains(&release.container()), "{there:?}");
    }
    assert_eq!(api.status().await["previous"], second);
}

async fn so_many_releases_as_said_stay_asleep_and_older_ones_are_removed(stage: Stage) {
    let setup = stage.setup().set("apps.shop.keep", 2);
    let (_gateway, api) = start(&setup).await;
    let releases: Vec<Configuration> = (1..=5)
        .map(|number| stage.release(&format!("r{number}")))
        .collect();
    for (at, release) in releases.iter().enumerate() {
        api.deployed(release).await;
        let kept: Vec<String> = releases[at.saturating_sub(2)..=at]
            .iter()
            .map(Configuration::container)
            .collect();
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        seen::until_there(stage.bench(), &kept).await;
        seen::until_running(stage.bench(), &[&release.container()]).await;
    }
    // Going back twice is possible with what is kept.
    for expected in ["r4", "r3"] {
        api.roll_back().await.ok();
        assert_eq!(api.answering().await, expected);
    }
}

async fn with_keep_zero_the_previous_release_stays_all_the_same(stage: Stage) {
    let setup = stage
        .setup()
        .set("apps.shop.keep", 0)
        .set("apps.shop.rollback_watch", "1s");
    let (_gateway, api) = start(&setup).await;
    let [one, two, three] = ["one", "two", "three"].map(|revision| stage.release(revision));
    for release in [&one, &two, &three] {
        api.deployed(release).await;
    }
    seen::until_there(stage.bench(), &[&two.container(), &three.container()]).await;
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "two");
}

async fn make_container(stage: &Stage, name: &str, image: &str, mark: &str) {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some([(LABEL.to_owned(), mark.to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let made = stage.engine().raw().create_container(Some(options), body);
    made.await.expect("a container");
}

/// An image of its own, made of the sample application's.
pub async fn image_of_its_own(stage: &Stage, short: &str) -> String {
    let maker = stage.another_machine().await;
    let name = maker.name("maker");
    make_container(stage, &name, &stage.bench().image(), maker.mark()).await;
    let repository = stage.bench().name(short);
    let options = CommitContainerOptionsBuilder::default()
        .container(&name)
        .repo(&repository)
        .tag("1")
        .changes(&format!("LABEL of={repository}"))
        .build();
    let image = format!("{repository}:1");
    stage.note_image(&image);
    let raw = stage.engine().raw();
    let made = raw.commit_container(options, ContainerConfig::default());
    made.await.expect("an image");
    // It would be one more user of the image that it was made of.
    maker.clear().await.expect("it is removed");
    image
}

async fn has_image(stage: &Stage, name: &str) -> bool {
    stage.engine().raw().inspect_image(name).await.is_ok()
}

async fn until_no_image(stage: &Stage, name: &str) {
    let what = format!("there is no image {name}");
    until(&what, || async {
        (!has_image(stage, name).await).then_some(())
    })
    .await;
}

async fn with_images(stage: &Stage, api: &Api, images: &[&str]) -> Vec<Configuration> {
    let mut releases = Vec::new();
    for (number, image) in images.iter().enumerate() {
        let release = stage.release(&format!("r{number}")).with("image", *image);
        api.deployed(&release).await;
        releases.push(release);
    }
    releases
}

async fn images_of_removed_releases_are_removed_after_them_and_shared_ones_stay(stage: Stage) {
    let setup = stage
        .setup()
        .set("apps.shop.keep", 1)
        .set("apps.shop.rollback_watch", "1s");
    let (_gateway, api) = start(&setup).await;
    let own = image_of_its_own(&stage, "own").await;
    let shared = image_of_its_own(&stage, "shared").await;
    let (last, current) = (
        image_of_its_own(&stage, "last").await,
        image_of_its_own(&stage, "current").await,
    );
    // The shared one is also that of a release that is kept.
    let releases = with_images(&stage, &api, &[&own, &shared, &shared, &current]).await;
    seen::until_there(
        stage.bench(),
        &[&releases[2].container(), &releases[3].container()],
    )
    .await;
    until_no_image(&stage, &own).await;
    assert!(has_image(&stage, &shared).await);
    assert!(has_image(&stage, &current).await);
    // What was never a release's is nobody's to remove.
    assert!(has_image(&stage, &last).await);
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "r2");
    let last_release = stage.release("r4").with("image", last.as_str());
    api.deployed(&last_release).await;
    seen::until_there(
        stage.bench(),
        &[&releases[2].container(), &last_release.container()],
    )
    .await;
    until_no_image(&stage, &current).await;
    assert!(has_image(&stage, &shared).await);
    assert!(has_image(&stage, &last).await);
}

async fn an_image_that_somebody_else_uses_stays(stage: Stage) {
    let setup = stage
        .setup()
        .set("apps.shop.keep", 0)
        .set("apps.shop.rollback_watch", "1s");
    let (_gateway, api) = start(&setup).await;
    let image = image_of_its_own(&stage, "theirs").await;
    // Another one's label, so that it is removed with the line and is not this gateway's.
    let somebody = stage.another_machine().await;
    let other = somebody.name("other");
    make_container(&stage, &other, &image, somebody.mark()).await;
    let base = stage.bench().image();
    let releases = with_images(&stage, &api, &[&image, &base, &base]).await;
    let kept = [&releases[1].container(), &releases[2].container()];
    seen::until_there(stage.bench(), &kept.map(String::as_str)).await;
    // Images are looked at after containers, and this takes more time than that.
    api.deployed(&stage.release("last")).await;
    assert!(has_image(&stage, &image).await);
    assert!(stage.engine().exists(&other).await);
}

async fn a_removed_release_can_be_launched_again(stage: Stage) {
    let setup = stage
        .setup()
        .set("apps.shop.keep", 1)
        .set("apps.shop.rollback_watch", "1s");
    let (_gateway, api) = start(&setup).await;
    let [one, two, three] = ["one", "two", "three"].map(|revision| stage.release(revision));
    let hash = api.deployed(&one).await;
    api.deployed(&two).await;
    api.deployed(&three).await;
    seen::until_there(stage.bench(), &[&two.container(), &three.container()]).await;
    let launched = api.launch(&hash).await.ok();
    assert_eq!(launched["existing"], json!(false));
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "one");
    seen::until_there(stage.bench(), &[&one.container(), &three.container()]).await;
}

async fn a_release_that_was_launched_and_not_switched_to_survives_other_switches(stage: Stage) {
    let setup = stage
        .setup()
        .set("apps.shop.keep", 1)
        .set("apps.shop.rollback_watch", "1s");
    let (_gateway, api) = start(&setup).await;
    let candidate = stage.release("candidate");
    let hash = api.launched(&candidate).await;
    let [one, two, three] = ["one", "two", "three"].map(|revision| stage.release(revision));
    for release in [&one, &two, &three] {
        api.deployed(release).await;
    }
    seen::until_there(
        stage.bench(),
        &[&two.container(), &three.container(), &candidate.container()],
    )
    .await;
    assert_eq!(api.release(&hash).await["role"], "candidate");
    seen::assert_starts(stage.bench(), &candidate.container(), 1).await;
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "candidate");
}

async fn releases_that_had_to_be_left_push_out_none_that_can_be_gone_back_to(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let mut images = Vec::new();
    for short in ["good", "better", "bad", "worse"] {
        images.push(image_of_its_own(&stage, short).await);
    }
    let release = |at: usize| stage.release(&format!("r{at}")).with("image", &*images[at]);
    api.deployed(&release(0)).await;
    api.deployed(&release(1)).await;
    for at in [2, 3] {
        api.deployed(&release(at)).await;
        api.roll_back().await.ok();
        assert_eq!(api.answering().await, "r1");
    }
    // Two stay besides the current one: the one before it, and the one that was left last.
    let stay = [0, 1, 3].map(|at| release(at).container());
    let stay: Vec<&str> = stay.iter().map(String::as_str).collect();
    seen::until_there(stage.bench(), &stay).await;
    until_no_image(&stage, &images[2]).await;
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "r0");
    assert!(has_image(&stage, &images[0]).await);
}

async fn a_current_release_whose_container_and_image_are_removed_comes_back(stage: Stage) {
    let registry = Registry::start(stage.dir());
    let base = stage.bench().image();
    let image = registry.take(&stage, &base, APP, "1").await;
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    let release = stage.release("1").without("image");
    api.deployed(&release).await;
    let made = seen::container(stage.bench(), &release.container()).await;
    let raw = stage.engine().raw();
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    let id = made.expect("it is there").id;
    raw.remove_container(&id, Some(force)).await.expect("gone");
    raw.remove_image(&image, None::<RemoveImageOptions>, None)
        .await
        .expect("gone");
    seen::until_running(stage.bench(), &[&release.container()]).await;
    assert_eq!(api.answering().await, "1");
    assert!(has_image(&stage, &image).await);
}
