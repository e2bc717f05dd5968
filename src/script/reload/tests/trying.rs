//! Changes that are tried before they serve: on their own tests, on the requests seen last, and after
//! that on the first minute.

use super::*;
use crate::script::decider::Decider;

/// A worker over the place's scripts, on a thread of its own, that answers what it is asked.
struct Asking {
    requests: std::sync::mpsc::Sender<Sent>,
    decided: std::sync::mpsc::Receiver<bool>,
}

impl Asking {
    fn begin(place: &Place) -> Self {
        let scripts = place.history.scripts().clone();
        let (requests, asked) = std::sync::mpsc::channel::<Sent>();
        let (done, decided) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut decider = Decider::new(scripts);
            let mut questions = decider.questions().unwrap();
            loop {
                match asked.recv_timeout(Duration::from_millis(1)) {
                    Ok(sent) => drop(done.send(decider.decide(&sent.facts()).is_ok())),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                while let Ok(question) = questions.try_recv() {
                    question.answer(decider.recent());
                }
            }
        });
        Self { requests, decided }
    }

    /// Whether the scripts had a decision.
    fn ask(&self, path: &str) -> bool {
        self.requests.send(Sent::get(path)).unwrap();
        self.decided.recv_timeout(PATIENCE).unwrap()
    }
}

fn look(reload: &mut Reload) {
    assert_eq!(reload.judge(&Listing::of(reload.dir())), Judged::Settled);
}

#[test]
fn a_change_is_told_by_what_it_decides_otherwise() {
    let place = Place::plain();
    let worker = Asking::begin(&place);
    assert!(worker.ask("/") && worker.ask("/other"));
    let mut reload = place.reload();
    place.write("scripts/a.rhai", &saying("two"));
    look(&mut reload);
    let told = place.history.tell();
    assert_eq!(said(&told.serving.version), "two");
    let report = told.serving.trial.shadow.unwrap();
    assert_eq!((report.compared, report.changed), (2, 1));
    let difference = &report.differences[0];
    assert_eq!(difference.before, "respond 200 \"one\"");
    assert_eq!(difference.after, "respond 200 \"two\"");
}

#[test]
fn a_change_that_fails_on_what_came_last_is_refused() {
    let place = Place::plain();
    let worker = Asking::begin(&place);
    assert!(worker.ask("/"));
    let mut reload = place.reload();
    place.write(
        "scripts/a.rhai",
        "route(\"/\", |req| {\n    respond(200, req.query(\"n\").pad(1, 2))\n});\n",
    );
    look(&mut reload);
    let told = place.history.tell();
    assert_eq!(said(&told.serving.version), "one");
    let refused = told.refused.unwrap();
    assert_eq!((refused.errors.len(), refused.errors[0].line), (1, 2));
    assert!(
        refused.errors[0].message.starts_with("GET /: "),
        "{}",
        refused.errors[0]
    );
}

#[test]
fn where_changes_are_held_they_wait_for_a_word_and_others_do_not() {
    let place = Place::plain();
    let worker = Asking::begin(&place);
    assert!(worker.ask("/"));
    let mut reload = place.reload();
    reload.settings.shadow = Shadow::Hold;
    // A change of words only.
    place.write("scripts/a.rhai", &format!("// first\n{}", saying("one")));
    look(&mut reload);
    assert_eq!(place.history.tell().serving.number, 2);
    place.write("scripts/a.rhai", &saying("two"));
    look(&mut reload);
    let told = place.history.tell();
    assert_eq!(
        (told.serving.number, said(&told.serving.version).as_str()),
        (2, "one")
    );
    let held = told.held.unwrap();
    assert_eq!((held.number, held.trial.shadow.unwrap().changed), (3, 1));
    let told = place.history.activate();
    assert_eq!(
        (told.serving.number, said(&told.serving.version).as_str()),
        (3, "two")
    );
    assert!(told.held.is_none());
    assert!(worker.ask("/"));
}

#[test]
fn switched_off_nothing_is_tried() {
    let place = Place::plain();
    let worker = Asking::begin(&place);
    assert!(worker.ask("/"));
    let mut reload = place.reload();
    reload.settings.shadow = Shadow::Off;
    place.write("scripts/a.rhai", "route(\"/\", |req| proxy(\"\"));");
    look(&mut reload);
    let told = place.history.tell();
    assert_eq!((told.serving.number, told.serving.trial.shadow), (2, None));
    assert!(!worker.ask("/"));
}

#[test]
fn scripts_whose_own_tests_fail_are_refused() {
    let place = Place::plain();
    let mut reload = place.reload();
    let test = "fn test_says() { assert_eq(simulate(\"GET\", \"/\").body, \"one\"); }\n\
                fn test_too() { assert(false); }\nfn test_good() { }\n";
    place.write("scripts/a.rhai", &format!("{}{test}", saying("two")));
    look(&mut reload);
    let told = place.history.tell();
    assert_eq!(said(&told.serving.version), "one");
    let refused = told.refused.unwrap();
    let shown: Vec<String> = refused.errors.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(
        shown[0].contains("a.rhai:2:18: test a.rhai::test_says failed: assert_eq: "),
        "{}",
        shown[0]
    );
    assert!(shown[0].contains("2 | fn test_says()"), "{}", shown[0]);
    assert!(
        shown[1].contains("a.rhai:3:17: test a.rhai::test_too failed: "),
        "{}",
        shown[1]
    );
    place.write(
        "scripts/a.rhai",
        &format!("{}fn test_good() {{ }}", saying("two")),
    );
    look(&mut reload);
    let told = place.history.tell();
    assert_eq!((told.serving.number, told.serving.trial.tests), (2, 1));
}

/// A place whose second version says "two" and goes when more than a tenth fails.
struct Guarded {
    place: Place,
    worker: Asking,
    _reloading: Reloading,
}

impl Guarded {
    /// `also` is what the second version has besides.
    async fn begin(place: Place, also: &str) -> Self {
        let worker = Asking::begin(&place);
        let settings = Settings {
            rollback_failures_max: Some(0.1),
            ..place.settings()
        };
        let reloading = place.watched_with(settings).await;
        place.write("scripts/a.rhai", &format!("{}{also}", saying("two")));
        place.until_it_says("two").await;
        Self {
            place,
            worker,
            _reloading: reloading,
        }
    }

    /// Asks until the first version is back. A version is looked at from a moment after it began to
    /// serve: what was asked of it before then says nothing.
    async fn until_it_goes(&self, ask: impl Fn(&Asking)) -> Told {
        let began = Instant::now();
        loop {
            ask(&self.worker);
            let told = self.place.history.tell();
            if told.serving.number == 1 {
                return told;
            }
            assert!(began.elapsed() < PATIENCE, "it does not go");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_version_that_fails_too_often_goes_by_itself_where_that_is_asked_for() {
    let guarded = Guarded::begin(Place::plain(), "route(\"/bad\", |req| proxy(\"\"));").await;
    let Guarded { place, worker, .. } = &guarded;
    assert!(worker.ask("/") && !worker.ask("/bad"));
    let told = guarded
        .until_it_goes(|worker| {
            worker.ask("/");
            worker.ask("/bad");
        })
        .await;
    let reason = told.rolled_back_because.unwrap();
    assert!(
        reason.starts_with("version 2 of the scripts failed "),
        "{reason}"
    );
    assert_eq!(told.newest, 2);
    // Other content is a new start.
    place.write("scripts/a.rhai", &saying("three"));
    let told = place.until_it_says("three").await;
    assert_eq!(told.rolled_back_because, None);
}

#[tokio::test]
async fn failures_of_other_hooks_count_too() {
    let guarded = Guarded::begin(Place::plain(), "on_error(|req, err| err.no_such_thing);").await;
    let version = guarded.place.history.tell().serving.version;
    let error = crate::decision::ErrorFacts {
        status: 502,
        kind: "upstream_failed".into(),
        message: String::new(),
        workload: String::new(),
        app: String::new(),
        retry_after_secs: None,
    };
    let told = guarded
        .until_it_goes(|worker| {
            assert!(worker.ask("/"));
            assert!(version.on_error(&Sent::get("/").facts(), &error).is_err());
        })
        .await;
    assert!(told.rolled_back_because.is_some());
}
