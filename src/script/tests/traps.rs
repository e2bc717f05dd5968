//! The ways in which a script could escape its limits, keep state, or fail only in production.

use std::time::Duration;

use rhai::Dynamic;

use super::{Dir, Sent, ask, ask_sent, errors, load, said};
use crate::config::ScriptLimits;
use crate::decision::Decision;
use crate::script::hooks::guarded;

fn failure(script: &str) -> String {
    ask(&load(script), "/").unwrap_err()
}

#[test]
fn an_endless_loop_ends_at_the_limit_of_operations() {
    let failed = failure("route(\"/\", |req| { loop {} });");
    assert!(failed.contains("used up the 100000 operations"), "{failed}");
}

#[test]
fn operations_are_counted_across_closures_that_native_functions_call() {
    for endless in [
        "[1].map(|x| { loop {} })",
        "[1, 2].sort(|a, b| { while true {} 0 })",
        "[1].for_each(|x| { loop {} })",
        // Each callback is short; together they are not.
        "let a = []; for i in 0..900 { a.push(i); } loop { a.map(|x| x + 1); }",
        "let f = |f| { f.call(f) }; loop { [1].map(|x| [1].map(|y| [1].map(|z| z))); }",
    ] {
        let failed = failure(&format!("route(\"/\", |req| {{ {endless} }});"));
        assert!(failed.contains("operations"), "{endless}: {failed}");
    }
}

#[test]
fn a_call_that_is_over_its_limit_has_failed_also_when_the_script_catches_that() {
    for caught in [
        "try { loop {} } catch {}",
        "try { [1].map(|x| { loop {} }); } catch (e) { }",
        "for i in 0..5 { try { [1].map(|x| { loop {} }); } catch { } }",
        "try { [1].map(|x| { loop {} }); } catch { return respond(200, \"escaped\"); }",
    ] {
        let failed = failure(&format!(
            "route(\"/\", |req| {{ {caught} respond(200, \"escaped\") }});"
        ));
        assert!(failed.contains("operations"), "{caught}: {failed}");
    }
}

#[test]
fn cpu_time_is_limited_where_operations_are_not() {
    let limits = ScriptLimits {
        operations_max: u64::MAX,
        cpu_time_max: Duration::from_millis(5),
        ..ScriptLimits::default()
    };
    for endless in ["loop {}", "[1].map(|x| { loop {} })"] {
        let dir = Dir::new(&[("a.rhai", &format!("route(\"/\", |req| {{ {endless} }});"))]);
        let failed = ask(&dir.load_with(&limits).unwrap(), "/").unwrap_err();
        assert!(failed.contains("used up the 5 ms of CPU time"), "{failed}");
    }
}

#[test]
fn the_top_level_is_limited_too() {
    let errors = errors("let n = 0;\nwhile true { n += 1; }");
    assert!(errors[0].contains("operations"), "{errors:?}");
}

#[test]
fn sizes_and_depth_are_limited() {
    for (greedy, expected) in [
        ("let s = \"x\"; loop { s += s; }", "Length of string"),
        ("let a = [1]; loop { a += a; }", "Size of array"),
        (
            "let m = #{}; for i in 0..5000 { m.set(\"k\" + i, i); }",
            "Size of object map",
        ),
        ("let a = []; a.pad(100000000, 1);", "Size of array"),
        ("\"x\".pad(100000000, 'x');", "Length of string"),
        ("blob(100000000);", "Size of"),
        ("fn f(n) { f(n + 1) } f(0);", "Stack overflow"),
        ("let f = |f| f.call(f); f.call(f);", "Stack overflow"),
    ] {
        let (functions, body) = match greedy.strip_prefix("fn ") {
            Some(rest) => {
                let end = rest.rfind("} ").unwrap() + 2;
                (format!("fn {}", &rest[..end]), &rest[end..])
            }
            None => (String::new(), greedy),
        };
        let script = format!("{functions} route(\"/\", |req| {{ {body} () }});");
        let failed = ask(&load(&script), "/").expect_err(greedy);
        assert!(failed.contains(expected), "{greedy}: {failed}");
    }
}

#[test]
fn replacing_cannot_ask_for_more_memory_than_a_string_may_have() {
    let failed = failure(
        "route(\"/\", |req| {
             let long = \"x\"; long.pad(60000, 'x');
             let by = \"y\"; by.pad(60000, 'y');
             long.replace(\"x\", by);
             respond(200, \"\")
         });",
    );
    assert!(failed.contains("Length of string"), "{failed}");
    let version = load(
        "route(\"/\", |req| {
             let a = \"a-b-c\"; a.replace(\"-\", \"+\"); a.replace('+', \"::\"); a.replace(\"c\", 'd'); a.replace('d', 'e');
             respond(200, a)
         });",
    );
    assert_eq!(said(&version, &Sent::get("/")), "a::b::e");
}

#[test]
fn the_deepest_allowed_nesting_fits_the_stack() {
    // A stack overflow is no error but the end of the process: a worker has 2 MiB.
    let deep = |n: usize| format!("{}1{}", "(".repeat(n), " + 1)".repeat(n));
    let script = format!(
        "fn f(n) {{ if n == 0 {{ 0 }} else {{ let x = {}; f(n - 1) }} }}
         route(\"/\", |req| {{ let g = |n, g| if n == 0 {{ f(20) }} else {{ [1].map(|x| g.call(n - 1, g)) }}; g.call(100, g); () }});",
        deep(12)
    );
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let failed = worker
        .spawn(move || failure(&script))
        .unwrap()
        .join()
        .unwrap();
    assert!(failed.contains("Stack overflow"), "{failed}");
}

#[test]
fn a_captured_variable_is_refused_with_its_place() {
    assert_eq!(
        errors(
            "let n = 0;\nconst STEP = 1;\nroute(\"/\", |req| { n += STEP; respond(200, `${n}`) });"
        ),
        [
            "a.rhai:3:1: the closure uses `n`, which is or has a variable outside of it: that would be shared by all requests (make it a const, or let it be inside the closure)\n\
          3 | route(\"/\", |req| { n += STEP; respond(200, `${n}`) });\n  \
            | ^"
        ]
    );
}

#[test]
fn a_captured_variable_is_found_wherever_it_hides() {
    for hidden in [
        "fn make() { let n = 0; route(\"/\", |req| { n += 1; respond(200, `${n}`) }); } make();",
        "let n = 0; const next = || { n += 1; n }; route(\"/\", |req| respond(200, `${next.call()}`));",
        "let n = 0; const a = [|| { n += 1; n }]; route(\"/\", |req| respond(200, `${a[0].call()}`));",
        "let n = 0; const m = #{next: || { n += 1; n }}; route(\"/\", |req| respond(200, `${m.next()}`));",
        "let n = 0; idle(|c| { n += 1; never() });",
        "let n = 0; template(\"t\", |vars| { n += 1; #{} });",
    ] {
        let errors = errors(hidden);
        assert_eq!(errors.len(), 1, "{hidden}");
        assert!(errors[0].contains("shared by all requests"), "{errors:?}");
    }
}

#[test]
fn nothing_that_a_handler_does_is_seen_by_the_next_request() {
    for (constants, attempt) in [
        ("const A = [[1]];", "A[0].push(2); A[0].len()"),
        ("const A = [[1]];", "A[0][0] += 2; A[0][0]"),
        ("const A = [1];", "A.push(1); A.len()"),
        ("const M = #{a: #{n: 0}};", "M.a.n += 1; M.a.n"),
        ("const M = #{n: 0};", "M.n += 1; M.n"),
        (
            "const M = #{n: 0}; fn inc() { this.n += 1; this.n }",
            "M.inc()",
        ),
        ("const M = #{n: 0}; fn f(m) { m.n += 1; m.n }", "f(M)"),
        ("const A = [[0]];", "A.for_each(|i| this[0] += 1); A[0][0]"),
        ("const A = [[0]];", "take(A[0]); A[0].len()"),
        ("const S = \"x\";", "S += \"y\"; S"),
        ("const N = 0; fn f() { global::N }", "f()"),
        (
            "const P = proxy(\"a\");",
            "try { P.strip(1); } catch {} `${P}`.len()",
        ),
        (
            "const F = |x| { x.push(1); x.len() }; const A = [];",
            "F.call(A)",
        ),
    ] {
        let version = load(&format!(
            "{constants} route(\"/\", |req| {{ let answer = {{ {attempt} }}; respond(200, `${{answer}}`) }});"
        ));
        let first = ask(&version, "/");
        assert_eq!(first, ask(&version, "/"), "{attempt}");
        assert!(
            first.is_ok() || first.unwrap_err().contains("constant"),
            "{attempt}"
        );
    }
}

#[test]
fn unknown_functions_are_refused_wherever_they_stand() {
    let script = "\
fn helper(x) {
    if x > 1 { helpr(x) } else { x }
}
route(\"/a\", |req| {
    let list = [1].map(|x| { doubel(x) });
    switch req.method {
        \"GET\" if chekc() => porxy(\"a\"),
        _ => proxy(\"a\").prot(80),
    }
});
idle(|c| stop_after(c.lable(\"x\")));
let f = |x| x;
let text = `n: ${lenght(\"abc\")}`;
let value = f(1);
helper(1, 2);
proxy();
for i in rnage(0, 5) { while nope() { } }
try { a1() } catch { a2() }
let m = #{ k: a3() };
m[a4()] = a5();
Fn(\"a6\");
let r = a7() || true && a8();
";
    let errors = errors(script);
    let told: Vec<&str> = errors.iter().map(|e| e.lines().next().unwrap()).collect();
    assert_eq!(
        told,
        [
            "a.rhai:2:16: there is no function `helpr`; is `helper` meant?",
            "a.rhai:5:30: there is no function `doubel`",
            "a.rhai:7:18: there is no function `chekc`",
            "a.rhai:7:29: there is no function `porxy`; is `proxy` meant?",
            "a.rhai:8:25: there is no function `prot`; is `port` meant?",
            "a.rhai:11:23: there is no function `lable`; is `label` meant?",
            "a.rhai:13:18: there is no function `lenght`; is `len` meant?",
            "a.rhai:14:13: `f` is a variable; a closure in it is called by f.call(…)",
            "a.rhai:15:1: `helper` takes 1 argument, not 2",
            "a.rhai:16:1: `proxy` takes 1 argument, not 0",
            "a.rhai:17:10: there is no function `rnage`; is `range` meant?",
            "a.rhai:17:30: there is no function `nope`",
            "a.rhai:18:7: there is no function `a1`",
            "a.rhai:18:22: there is no function `a2`",
            "a.rhai:19:15: there is no function `a3`",
            "a.rhai:20:3: there is no function `a4`",
            "a.rhai:20:11: there is no function `a5`",
            "a.rhai:21:4: there is no function `a6`",
            "a.rhai:22:9: there is no function `a7`",
            "a.rhai:22:25: there is no function `a8`",
        ]
    );
    assert!(errors[3].ends_with(
        "7 |         \"GET\" if chekc() => porxy(\"a\"),\n  |                             ^"
    ));
}

#[test]
fn a_method_with_another_number_of_arguments_is_refused() {
    let errors = errors("route(\"/\", |req| proxy(\"a\").strip(1, 2).asleep());");
    assert!(
        errors[0].starts_with("a.rhai:1:29: `strip` takes 1 argument, not 2"),
        "{errors:?}"
    );
    assert!(
        errors[1].starts_with("a.rhai:1:41: `asleep` takes 1 argument, not 0"),
        "{errors:?}"
    );
}

#[test]
fn what_can_be_called_is_not_refused() {
    let version = load(
        "fn twice() { this * 2 }
         fn add(a, b) { a + b }
         const TABLE = #{ next: |x| x + 1 };
         route(\"/\", |req| {
             let f = |x| x * 10;
             let later = Fn(\"add\");
             let n = 3;
             let all = [n.twice(), add(1, 2), TABLE.next(4), f.call(5), later.call(1, 1), call(f, 2)];
             all.push(type_of(n).len());
             print(all); debug(all);
             respond(200, `${all}`)
         });",
    );
    assert_eq!(said(&version, &Sent::get("/")), "[6, 3, 5, 50, 2, 20, 3]");
}

#[test]
fn nothing_impure_exists() {
    for impure in [
        "timestamp()",
        "sleep(1)",
        "sleep(0.5)",
        "eval(\"1\")",
        "exit()",
        "rand()",
        "random()",
        "open_file(\"/etc/passwd\")",
        "env(\"HOME\")",
        "Fn(\"sleep\").call(1)",
        "Fn(\"eval\").call(\"1\")",
    ] {
        assert_eq!(
            errors(&format!("let x = 1;\n{impure};")).len(),
            1,
            "{impure}"
        );
    }
    let failed = failure("route(\"/\", |req| { Fn(\"sle\" + \"ep\").call(3600); () });");
    assert!(failed.contains("sleep does not exist here"), "{failed}");
    let failed = failure("route(\"/\", |req| { Fn(\"ev\" + \"al\").call(\"1\"); () });");
    assert!(failed.starts_with("a.rhai:1:"), "{failed}");
}

#[test]
fn hooks_are_registered_at_the_top_level_only() {
    let failed = failure("route(\"/\", |req| { route(\"/b\", |r| ()); () });");
    assert!(
        failed.contains("route(…) belongs at the top level"),
        "{failed}"
    );
}

#[test]
fn an_error_without_a_place_is_shown_where_its_hook_was_registered() {
    let version = load("\n\n  route(\"/\", |req| 42);");
    let failure = version.decide(&Sent::get("/").facts()).unwrap_err();
    assert!(
        failure
            .message
            .contains("a.rhai:3:3: the route returned the number 42, which is no decision")
    );
    assert_eq!(
        failure.source_line.as_deref(),
        Some("3 |   route(\"/\", |req| 42);\n  |   ^")
    );
    let failed = ask(
        &load("\n\n  route(\"/\", |req| { [1].map(|x| { loop {} }) });"),
        "/",
    )
    .unwrap_err();
    assert!(failed.starts_with("a.rhai:3:"), "{failed}");
}

#[test]
fn an_error_in_a_function_is_shown_there() {
    let version =
        load("fn pick(n) {\n    proxy(n)\n}\nroute(\"/{n}\", |req| pick(req.param(\"n\")));");
    let failure = version.decide(&Sent::get("/a%20b").facts()).unwrap_err();
    assert!(
        failure
            .message
            .contains("a.rhai:2:5: proxy: \"a b\" is not a name"),
        "{}",
        failure.message
    );
    assert_eq!(
        failure.source_line.as_deref(),
        Some("2 |     proxy(n)\n  |     ^")
    );
}

#[test]
fn a_panic_below_a_script_is_a_failure_like_any_other() {
    let failed = guarded(10, Duration::MAX, || panic!("on purpose"))
        .err()
        .unwrap();
    assert!(failed.message.contains("on purpose"));
    assert!(guarded(10, Duration::MAX, || Ok(Dynamic::UNIT)).is_ok());
}

#[test]
fn a_failed_call_leaves_nothing_behind() {
    let version = load(
        "route(\"/bad\", |req| { loop {} });
         route(\"/good\", |req| respond(200, req.path));",
    );
    for _ in 0..3 {
        assert!(ask(&version, "/bad").is_err());
        assert!(matches!(
            ask_sent(&version, &Sent::get("/good")),
            Ok(Some(Decision::Respond(_)))
        ));
    }
}

#[test]
fn a_value_in_a_value_in_a_value_does_not_end_the_process() {
    for grows in [
        "let a = []; loop { a = [a]; }",
        "let a = [1]; loop { a = [a, a]; }",
        "let m = #{}; loop { m = #{m: m}; }",
        "let m = #{}; loop { let n = #{}; n.m = m; m = n; }",
        "let f = || 0; loop { f = [f]; }",
    ] {
        let worker = std::thread::Builder::new().stack_size(2 << 20);
        let script = format!("route(\"/\", |req| {{ {grows} }});");
        let failed = worker.spawn(move || ask(&load(&script), "/").is_err());
        assert!(failed.unwrap().join().unwrap(), "{grows}");
    }
}

#[test]
fn closures_cannot_be_made_to_grow_without_limit() {
    // The size of a closure is not limited, and this doubles it each time.
    for grows in ["f = f.curry(f);", "f = curry(f, f);"] {
        let errors = errors(&format!(
            "route(\"/\", |req| {{ let f = |x| x; loop {{ {grows} }} }});"
        ));
        assert!(
            errors[0].contains("`curry` does not exist here"),
            "{errors:?}"
        );
    }
    let version =
        load("route(\"/\", |req| { let n = 2; let f = |x| x * n; respond(200, `${f.call(4)}`) });");
    assert_eq!(said(&version, &Sent::get("/")), "8");
}

#[test]
fn a_decision_cannot_be_made_to_grow_without_limit() {
    for (grows, expected) in [
        (
            "loop { p.set_header(\"a\", \"b\"); }",
            "more than 100 header edits",
        ),
        (
            "let v = \"v\"; v.pad(20000, 'v'); p.set_header(\"a\", v);",
            "longer than 8192 bytes",
        ),
    ] {
        let failed = failure(&format!(
            "route(\"/\", |req| {{ let p = proxy(\"a\"); {grows} p }});"
        ));
        assert!(failed.contains(expected), "{failed}");
    }
}
