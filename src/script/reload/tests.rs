//! Scripts that are changed under a running gateway, in every way that editors and mounts do it.

mod trying;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use prometheus_client::registry::Registry;
use tempfile::TempDir;

use super::*;
use crate::config::ScriptLimits;
use crate::decision::Decision;
use crate::script::current::Scripts;
use crate::script::history::Told;
use crate::script::tests::{Sent, ask_sent};
use crate::script::version::Version;

/// For anything that is waited for: far more than it takes, so that a test fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn limits() -> ScriptLimits {
    ScriptLimits {
        cpu_time_max: Duration::from_secs(20),
        load_cpu_time_max: Duration::from_secs(20),
        ..ScriptLimits::default()
    }
}

fn saying(text: &str) -> String {
    format!("route(\"/\", |req| respond(200, \"{text}\"));\n")
}

/// A folder with room beside the scripts directory, and the history of what is in that.
struct Place {
    folder: TempDir,
    history: Arc<History>,
}

impl Place {
    /// `prepare` makes `scripts` in the folder that it is given.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let version = match Version::load(&folder.path().join("scripts"), &limits().into(), 1) {
            Ok(version) => version,
            Err(errors) => panic!("{}", errors[0]),
        };
        let history = History::new(Scripts::new(version), &mut Registry::default());
        Self { folder, history }
    }

    /// `scripts/a.rhai` says "one".
    fn plain() -> Self {
        Self::new(|folder| {
            fs::create_dir(folder.join("scripts")).unwrap();
            fs::write(folder.join("scripts/a.rhai"), saying("one")).unwrap();
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            dir: self.path("scripts"),
            given: limits().into(),
            ..crate::config::Config::default().scripts
        }
    }

    fn reload(&self) -> Reload {
        Reload {
            history: self.history.clone(),
            settings: self.settings(),
            judged: None,
            // Far more than it takes, so that no worker of a test is left out.
            recent_time: PATIENCE,
        }
    }

    /// Watches, and returns when the directory was looked at once.
    async fn watched(&self) -> Reloading {
        self.watched_with(self.settings()).await
    }

    async fn watched_with(&self, settings: Settings) -> Reloading {
        let mut changes = self.history.changes();
        let reloading = Reloading::begin(self.history.clone(), settings).unwrap();
        let looked = tokio::time::timeout(PATIENCE, changes.changed()).await;
        looked.unwrap().unwrap();
        reloading
    }

    /// Waits until what is told of the versions is as wanted.
    async fn until(&self, wanted: impl Fn(&Told) -> bool) -> Told {
        let mut changes = self.history.changes();
        let found = async {
            loop {
                changes.mark_unchanged();
                let told = self.history.tell();
                if wanted(&told) {
                    return told;
                }
                changes.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| {
            panic!("not within {PATIENCE:?}: {:?}", self.history.tell().refused)
        })
    }

    async fn until_it_says(&self, text: &str) -> Told {
        self.until(|told| told.refused.is_none() && said(&told.serving.version) == text)
            .await
    }

    async fn until_refused(&self) -> Told {
        self.until(|told| told.refused.is_some()).await
    }
}

fn said(version: &Version) -> String {
    match ask_sent(version, &Sent::get("/")) {
        Ok(Some(Decision::Respond(reply))) => reply.body.to_string(),
        other => panic!("{other:?}"),
    }
}

fn changes(place: &Place) -> u64 {
    *place.history.changes().borrow()
}

#[test]
fn content_is_built_once_whether_it_is_good_or_not() {
    let place = Place::plain();
    let mut reload = place.reload();
    let look = |reload: &mut Reload| {
        let judged = reload.judge(&Listing::of(reload.dir()));
        assert_eq!(judged, Judged::Settled);
        changes(&place)
    };
    assert_eq!(look(&mut reload), 1);
    assert_eq!(look(&mut reload), 1);
    place.write("scripts/a.rhai", "route(");
    assert_eq!(look(&mut reload), 2);
    place.write("scripts/a.rhai", "route(");
    assert_eq!(look(&mut reload), 2);
    assert!(place.history.tell().refused.is_some());
    place.write("scripts/a.rhai", &saying("one"));
    assert_eq!(look(&mut reload), 3);
    let told = place.history.tell();
    assert!(told.refused.is_none());
    assert_eq!((told.serving.number, told.kept.len()), (1, 1));
}

#[test]
fn a_file_that_no_script_imports_makes_no_version() {
    let place = Place::plain();
    let mut reload = place.reload();
    fs::create_dir(place.path("scripts/lib")).unwrap();
    place.write("scripts/lib/unused.rhai", "fn broken(");
    reload.judge(&Listing::of(reload.dir()));
    let told = place.history.tell();
    assert!(told.refused.is_none());
    assert_eq!(told.serving.number, 1);
}

#[test]
fn definitions_for_editors_make_no_version() {
    let place = Place::plain();
    let mut reload = place.reload();
    reload.judge(&Listing::of(reload.dir()));
    let (before, known) = (Listing::of(reload.dir()), changes(&place));
    crate::script::definitions::write(reload.dir()).unwrap();
    let listing = Listing::of(reload.dir());
    assert!(listing.files().eq(before.files()));
    assert_eq!(listing.digest(), before.digest());
    assert_eq!(reload.judge(&listing), Judged::Settled);
    assert_eq!(changes(&place), known);
    assert_eq!(place.history.tell().newest, 1);
}

#[test]
fn all_errors_of_refused_content_are_told_with_their_lines() {
    let place = Place::plain();
    let mut reload = place.reload();
    place.write("scripts/a.rhai", "route(\"/\", |req| porxy(\"a\"));\n");
    place.write("scripts/b.rhai", "let x = ;\n");
    reload.judge(&Listing::of(reload.dir()));
    let errors = place.history.tell().refused.unwrap().errors;
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    assert!(shown[0].contains("a.rhai:1:18: ") && shown[0].contains("\n1 | route("));
    assert!(shown[1].contains("b.rhai:1:9: ") && shown[1].ends_with("        ^"));
}

#[tokio::test]
async fn a_saved_file_serves_soon() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    place.write("scripts/a.rhai", &saying("two"));
    let told = place.until_it_says("two").await;
    assert_eq!((told.serving.number, told.newest), (2, 2));
}

#[tokio::test]
async fn what_changed_before_the_watching_began_is_noticed() {
    let place = Place::plain();
    place.write("scripts/a.rhai", &saying("two"));
    let _reloading = place.watched().await;
    place.until_it_says("two").await;
}

#[tokio::test]
async fn an_editor_that_saves_by_renaming_is_noticed_each_time() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    for text in ["two", "three", "four"] {
        place.write("scripts/.a.rhai.swp", &saying(text));
        fs::rename(
            place.path("scripts/.a.rhai.swp"),
            place.path("scripts/a.rhai"),
        )
        .unwrap();
        place.until_it_says(text).await;
    }
}

#[tokio::test]
async fn a_half_written_file_is_refused_and_the_whole_one_taken() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    let text = saying("two");
    let (half, _) = text.split_at(text.len() / 2);
    place.write("scripts/a.rhai", half);
    let told = place.until_refused().await;
    assert_eq!(said(&told.serving.version), "one");
    place.write("scripts/a.rhai", &text);
    place.until_it_says("two").await;
}

#[tokio::test]
async fn an_imported_file_counts_also_in_a_folder_that_is_new() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    let script = "import \"lib/words/greet\" as words;\n\
                  route(\"/\", |req| respond(200, words::greeting()));\n";
    place.write("scripts/a.rhai", script);
    place.until_refused().await;
    fs::create_dir_all(place.path("scripts/lib/words")).unwrap();
    place.write(
        "scripts/lib/words/greet.rhai",
        "fn greeting() { \"hello\" }",
    );
    place.until_it_says("hello").await;
    place.write(
        "scripts/lib/words/greet.rhai",
        "fn greeting() { \"goodbye\" }",
    );
    place.until_it_says("goodbye").await;
}

#[tokio::test]
async fn a_removed_file_takes_its_routes_with_it_and_the_last_one_is_not_let_go() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    place.write(
        "scripts/b.rhai",
        "route(\"/b\", |req| respond(200, \"b\"));",
    );
    let routes = |told: &Told| told.serving.version.summary().routes.len();
    place.until(|told| routes(told) == 2).await;
    fs::remove_file(place.path("scripts/b.rhai")).unwrap();
    place.until(|told| routes(told) == 1).await;
    fs::remove_file(place.path("scripts/a.rhai")).unwrap();
    let told = place.until_refused().await;
    assert_eq!(said(&told.serving.version), "one");
}

#[tokio::test]
async fn without_its_directory_the_version_serves_on_until_there_is_one_again() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    for text in ["two", "three"] {
        let serving = said(&place.history.tell().serving.version);
        fs::remove_dir_all(place.path("scripts")).unwrap();
        let told = place.until_refused().await;
        assert_eq!(said(&told.serving.version), serving);
        fs::create_dir(place.path("scripts")).unwrap();
        place.write("scripts/a.rhai", &saying(text));
        place.until_it_says(text).await;
        // The directory that is there now is watched as the first one was.
        place.write("scripts/a.rhai", &saying("edited"));
        place.until_it_says("edited").await;
    }
}

#[tokio::test]
async fn a_directory_that_is_a_link_may_be_swapped() {
    let place = Place::new(|folder| {
        for name in ["one", "two", "three"] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("a.rhai"), saying(name)).unwrap();
        }
        symlink("one", folder.join("scripts")).unwrap();
    });
    let _reloading = place.watched().await;
    for name in ["two", "three"] {
        symlink(name, place.path("new")).unwrap();
        fs::rename(place.path("new"), place.path("scripts")).unwrap();
        place.until_it_says(name).await;
    }
    place.write("three/a.rhai", &saying("edited"));
    place.until_it_says("edited").await;
}

/// The way of Kubernetes: each file a link through `..data`, which is exchanged as a whole.
#[tokio::test]
async fn a_config_map_is_taken_as_a_whole() {
    let place = Place::new(|folder| {
        let dir = folder.join("scripts");
        fs::create_dir_all(dir.join("..1")).unwrap();
        fs::write(dir.join("..1/a.rhai"), saying("1")).unwrap();
        symlink("..1", dir.join("..data")).unwrap();
        symlink("..data/a.rhai", dir.join("a.rhai")).unwrap();
    });
    let _reloading = place.watched().await;
    for (old, new) in [("1", "2"), ("2", "3")] {
        fs::create_dir(place.path(&format!("scripts/..{new}"))).unwrap();
        place.write(&format!("scripts/..{new}/a.rhai"), &saying(new));
        symlink(format!("..{new}"), place.path("scripts/..data_tmp")).unwrap();
        fs::rename(
            place.path("scripts/..data_tmp"),
            place.path("scripts/..data"),
        )
        .unwrap();
        fs::remove_dir_all(place.path(&format!("scripts/..{old}"))).unwrap();
        place.until_it_says(new).await;
    }
}

/// No event comes of a file elsewhere: only looking finds it.
#[tokio::test]
async fn a_change_that_no_event_tells_of_is_found_by_looking() {
    let place = Place::new(|folder| {
        fs::create_dir(folder.join("scripts")).unwrap();
        fs::create_dir(folder.join("elsewhere")).unwrap();
        fs::write(folder.join("elsewhere/a"), saying("one")).unwrap();
        symlink("../elsewhere/a", folder.join("scripts/a.rhai")).unwrap();
    });
    let _reloading = place.watched().await;
    place.write("elsewhere/a", &saying("two"));
    place.until_it_says("two").await;
}

#[tokio::test]
async fn a_rollback_holds_until_other_good_content_is_saved() {
    let place = Place::plain();
    let _reloading = place.watched().await;
    place.write("scripts/a.rhai", &saying("two"));
    place.until_it_says("two").await;
    place.history.roll_back(None).unwrap();
    assert_eq!(said(&place.history.tell().serving.version), "one");
    place.write("scripts/a.rhai", "route(");
    let told = place.until_refused().await;
    assert_eq!(said(&told.serving.version), "one");
    place.write("scripts/a.rhai", &saying("three"));
    let told = place.until_it_says("three").await;
    assert_eq!(told.serving.number, 3);
}

#[test]
fn our_own_reading_is_no_change() {
    use notify::event::{CreateKind, RenameMode};
    let dir = Path::new("/x/scripts");
    let of = |kind: EventKind, path: &str| {
        seen(&Ok(notify::Event::new(kind).add_path(path.into())), dir)
    };
    let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let made = EventKind::Create(CreateKind::Any);
    assert_eq!(of(read, "/x/scripts/a.rhai"), Seen::Nothing);
    assert_eq!(of(written, "/x/scripts/a.rhai"), Seen::Changed);
    assert_eq!(of(renamed, "/x/scripts/a.rhai"), Seen::Changed);
    assert_eq!(of(renamed, "/x/scripts"), Seen::Replaced);
    assert_eq!(of(made, "/x/other"), Seen::Nothing);
    assert_eq!(of(written, "/x/scripts/noise.log"), Seen::Nothing);
    assert_eq!(of(renamed, "/x/scripts/lib/words"), Seen::Changed);
    assert_eq!(of(renamed, "/x/scripts/..data"), Seen::Changed);
    assert_eq!(
        seen(&Err(notify::Error::generic("lost")), dir),
        Seen::Changed
    );
}
