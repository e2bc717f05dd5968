//! Constants of gateway.toml: where scripts can read them, and what hides them.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Dir, Sent, ask, said, unhurried};
use crate::config::{Constant, Given};
use crate::decision::ContainerRules as _;
use crate::script::version::Version;

fn given() -> Given {
    let text = |text: &str| Constant::Text(text.to_owned());
    let vars = [
        ("REGION", text("eu")),
        ("PORT", Constant::Integer(80)),
        ("SHARE", Constant::Float(0.5)),
        ("OPEN", Constant::Bool(true)),
        (
            "TEAMS",
            Constant::List(vec![text("red"), Constant::List(vec![text("blue")])]),
        ),
        ("tag", text("mine")),
        ("path", text("p")),
    ];
    Given {
        vars: vars
            .into_iter()
            .map(|(name, constant)| (name.to_owned(), constant))
            .collect(),
        ..unhurried().into()
    }
}

fn load(files: &[(&str, &str)]) -> Version {
    match Dir::new(files).load_given(&given()) {
        Ok(version) => version,
        Err(errors) => panic!("{}", errors[0]),
    }
}

fn load_one(text: &str) -> Version {
    load(&[("a.rhai", text)])
}

/// The first lines of the errors of loading.
fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let dir = Dir::new(files);
    let errors = dir.without_dir(dir.load_given(&given()));
    let first = |error: String| error.lines().next().unwrap_or_default().to_owned();
    errors.into_iter().map(first).collect()
}

fn body(version: &Version) -> String {
    said(version, &Sent::get("/"))
}

/// What a handler says of an expression.
fn value(expression: &str) -> String {
    let script = format!("route(\"/\", |req| {{ let a = {expression}; respond(200, `${{a}}`) }});");
    body(&load_one(&script))
}

#[test]
fn a_constant_is_read_by_its_name_as_what_it_is() {
    for (expression, shown) in [
        ("vars.REGION", "eu"),
        ("vars[\"REGION\"]", "eu"),
        ("vars.PORT + 1", "81"),
        ("vars.SHARE * 2", "1.0"),
        ("vars.OPEN && true", "true"),
        ("vars.TEAMS[1][0]", "blue"),
        ("vars.TEAMS.len() + vars.REGION.len", "4"),
        ("vars.TEAMS.contains(\"red\")", "true"),
        // These are properties of all values, or of a request.
        ("vars.tag + vars.path", "minep"),
        ("vars.get(\"REGION\", 1)", "eu"),
        ("vars.get(\"REGIO\", 1)", "1"),
    ] {
        assert_eq!(value(expression), shown, "{expression}");
    }
}

#[test]
fn constants_can_be_read_everywhere() {
    let version = load(&[
        (
            "lib/here.rhai",
            "fn region() { vars.REGION }
             fn regions(items) { items.map(|item| item + vars.REGION) }
             export const PORT = vars.PORT;",
        ),
        (
            "a.rhai",
            r#"
            import "lib/here" as here;
            const TOP = vars.REGION + "-top";
            const LATER = #{ region: || vars.REGION };
            fn plain() { vars.REGION }
            fn closing() { let add = |x| x + vars.PORT; add.call(1) }
            let kept = vars.TEAMS;
            if vars.OPEN {
                route("/", |req| {
                    let nested = [1, 2].map(|a| [a].map(|b| b + vars.PORT));
                    let all = [plain(), closing(), global::TOP, LATER.region.call(), nested,
                        here::region(), here::regions(["a-"]), here::PORT, vars.REGION];
                    respond(200, `${all}`)
                });
            }
            template("t", |given| #{ name: vars.REGION + given.x, image: "i" });
            on_error(|req, err| respond(500, vars.REGION));
            "#,
        ),
    ]);
    assert_eq!(
        body(&version),
        "[\"eu\", 81, \"eu-top\", \"eu\", [[81], [82]], \"eu\", [\"a-eu\"], 80, \"eu\"]"
    );
    let spec = version.template("t", json!({ "x": "1" }).as_object().unwrap());
    assert_eq!(spec.unwrap().unwrap().name.as_str(), "eu1");
}

#[test]
fn what_a_script_calls_vars_itself_goes_first() {
    let version = load_one(
        r#"
        fn length(vars) { [1].map(|x| x + vars.len()) }
        template("t", |vars| {
            let names = ["a"].map(|x| x + vars.x);
            #{ name: names[0], image: "i" }
        });
        route("/", |req| {
            let all = [length([1]), vars.REGION];
            let vars = #{ MINE: 1 };
            all.push(vars.MINE);
            all.push([1].map(|x| vars.MINE + x));
            for vars in [5] { all.push(vars); }
            respond(200, `${all}`)
        });
        "#,
    );
    assert_eq!(body(&version), "[[2], \"eu\", 1, [2], 5]");
    let spec = version.template("t", json!({ "x": "1" }).as_object().unwrap());
    assert_eq!(spec.unwrap().unwrap().name.as_str(), "a1");
}

#[test]
fn a_name_that_is_not_there_is_refused_when_scripts_are_loaded() {
    let there = "(there are OPEN, PORT, REGION, SHARE, TEAMS, path, tag)";
    let found = errors(&[
        ("lib/b.rhai", "fn f() { vars.WHERE }"),
        (
            "a.rhai",
            "import \"lib/b\" as b;\n\
             fn f() { vars.REGOIN }\n\
             route(\"/\", |req| [1].map(|x| vars.PROT.abs() + vars[\"gone\"]));\n\
             const A = vars?.NONE.x;\n",
        ),
        ("c.rhai", "route(\"/c\", |req| vars.REGION_);"),
    ]);
    assert_eq!(
        found,
        [
            format!("lib/b.rhai:1:15: there is no `vars.WHERE` {there}"),
            format!("c.rhai:1:24: there is no `vars.REGION_`; is `REGION` meant? {there}"),
        ]
    );
    let found = errors(&[(
        "a.rhai",
        "fn f() { vars.REGOIN }\n\
         route(\"/\", |req| [1].map(|x| vars.PROT.abs() + vars[\"gone\"]));\n\
         const A = vars?.NONE.x;\n",
    )]);
    assert_eq!(
        found,
        [
            format!("a.rhai:1:15: there is no `vars.REGOIN`; is `REGION` meant? {there}"),
            format!("a.rhai:2:35: there is no `vars.PROT`; is `PORT` meant? {there}"),
            format!("a.rhai:2:53: there is no `vars.gone` {there}"),
            format!("a.rhai:3:17: there is no `vars.NONE` {there}"),
        ]
    );
    let none = Dir::new(&[("a.rhai", "vars.A")]).errors();
    assert!(none[0].contains("there is no `vars.A` ([vars] of gateway.toml has none)"));
}

#[test]
fn a_name_that_is_not_there_fails_when_it_is_only_known_then() {
    let version = load_one("route(\"/{n}\", |req| respond(200, vars[req.param(\"n\")]));");
    assert_eq!(said(&version, &Sent::get("/REGION")), "eu");
    let failed = ask(&version, "/NONE").unwrap_err();
    assert!(
        failed.contains("there is no `vars.NONE` (there are OPEN, PORT"),
        "{failed}"
    );
}

#[test]
fn a_constant_cannot_be_changed() {
    let found = errors(&[(
        "a.rhai",
        "route(\"/\", |req| { vars.REGION = \"us\"; vars[\"PORT\"] += 1; vars.TEAMS[0] = 1; vars = 1; });",
    )]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(
        found[0].starts_with("a.rhai:1:20: constants of gateway.toml cannot be changed"),
        "{found:?}"
    );
    for change in [
        "vars.TEAMS.push(1)",
        "vars.REGION.trim(); vars.REGION.replace(\"e\", \"a\")",
        "let v = vars; v.REGION = 1",
        "let v = vars; v.TEAMS[1][0] = 1",
    ] {
        let version = load_one(&format!("route(\"/\", |req| {{ {change}; () }});"));
        assert!(ask(&version, "/").is_err(), "{change}");
    }
    assert_eq!(value("{ let t = vars.TEAMS; t.push(1); t.len() }"), "3");
    assert_eq!(
        value("{ let t = vars.TEAMS; t[1].push(1); t }"),
        "[\"red\", [\"blue\", 1]]"
    );
}

#[test]
fn what_is_remembered_is_right_with_constants() {
    let version = load_one("route(\"/{n}\", |req| respond(200, vars.REGION + req.param(\"n\")));");
    for target in ["/1", "/1", "/2"] {
        assert_eq!(
            said(&version, &Sent::get(target)),
            format!("eu{}", &target[1..])
        );
    }
}

#[test]
fn a_message_lists_some_of_many_names() {
    let vars: BTreeMap<String, Constant> = (0..50)
        .map(|n| (format!("N{n:02}"), Constant::Bool(true)))
        .collect();
    let given = Given {
        vars,
        ..unhurried().into()
    };
    let dir = Dir::new(&[("a.rhai", "vars.Q")]);
    let told = dir.without_dir(dir.load_given(&given));
    assert!(told[0].contains("N18, N19, …)"), "{told:?}");
}
