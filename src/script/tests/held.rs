//! Variables that are held while a method runs on them: told when the scripts are loaded, and no
//! way to make the gateway wait.

use std::time::{Duration, Instant};

use super::{Dir, Sent, ask, errors, load, said};
use crate::config::ScriptLimits;

const HELD: &str = "which is held while";

#[test]
fn a_closure_that_uses_what_its_method_runs_on_is_refused() {
    for (held, method) in [
        ("req.segments.map(|s| req.header(s))", "map"),
        (
            "req.segments.filter(|s| s != \"\").map(|s| req.header(s))",
            "map",
        ),
        ("req.segments.map(|s| [1].map(|n| req.path))", "map"),
        ("let a = [1]; a.filter(|n| n < a.len())", "filter"),
        ("let a = [[1]]; a[0].for_each(|n| a.push(n))", "for_each"),
        ("let m = #{ l: [1] }; m.l.some(|n| m.l.len() == n)", "some"),
    ] {
        let errors = errors(&format!("route(\"/\", |req| {{ {held} }});"));
        assert_eq!(errors.len(), 1, "{held}: {errors:?}");
        let expected = format!("{HELD} `{method}` runs on it");
        assert!(errors[0].contains(&expected), "{held}: {errors:?}");
    }
}

#[test]
fn a_variable_of_its_own_is_held_instead() {
    let version = load(
        "route(\"/{*rest}\", |req| {
            let list = req.segments;
            let a = [1, 2];
            let copy = a;
            let counted = copy.filter(|n| n < a.len());
            respond(200, `${list.map(|s| req.query(s))} ${counted} ${req.segments.map(|s| s + \"!\")}`)
        });",
    );
    assert_eq!(
        said(&version, &Sent::get("/a/b?a=1&b=2")),
        r#"["1", "2"] [1] ["a!", "b!"]"#
    );
}

/// Rhai waits for 50 ms before it says that a variable is held, which costs no CPU time.
#[test]
fn a_script_that_waits_for_its_own_variables_is_ended() {
    let script = "route(\"/\", |req| {
        let a = [1];
        let f = |n| a.len();
        for i in 0..1000 { try { a.map(f); } catch { } }
    });";
    let limits = ScriptLimits {
        cpu_time_max: Duration::from_millis(50),
        ..ScriptLimits::default()
    };
    let version = Dir::new(&[("a.rhai", script)]).load_with(&limits).unwrap();
    let begun = Instant::now();
    let failed = ask(&version, "/").unwrap_err();
    assert!(failed.contains("waited"), "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}
