//! Constants for scripts, and the time zone that they count in.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::*;

const ENV: [(&str, &str); 3] = [
    ("SHOP_TOKEN", "hunter2"),
    ("SHOP_EMPTY", ""),
    ("SHOP_NUMBER", "7"),
];

fn vars(text: &str) -> BTreeMap<String, Constant> {
    match read_with(&format!("[vars]\n{text}"), &ENV) {
        Ok(config) => config.scripts.given.vars,
        Err(errors) => panic!("{errors}"),
    }
}

fn text(text: &str) -> Constant {
    Constant::Text(text.to_owned())
}

#[test]
fn constants_are_read_as_they_are_typed() {
    let read = vars(
        "TEXT = \"eu\"\n_n1 = -5\nhalf = 0.5\nYES = true\nLIST = [1, [\"a\", [2.5, [false]]], []]\n",
    );
    let list = |items: &[Constant]| Constant::List(items.to_vec());
    let expected = BTreeMap::from([
        ("TEXT".to_owned(), text("eu")),
        ("_n1".to_owned(), Constant::Integer(-5)),
        ("half".to_owned(), Constant::Float(0.5)),
        ("YES".to_owned(), Constant::Bool(true)),
        (
            "LIST".to_owned(),
            list(&[
                Constant::Integer(1),
                list(&[
                    text("a"),
                    list(&[Constant::Float(2.5), list(&[Constant::Bool(false)])]),
                ]),
                list(&[]),
            ]),
        ),
    ]);
    assert_eq!(read, expected);
    assert_eq!(vars(""), BTreeMap::new());
}

#[test]
fn a_constant_from_the_environment_is_its_text_or_the_default() {
    let read = vars(
        "A = { env = \"SHOP_TOKEN\" }\n\
         B = { env = \"SHOP_EMPTY\", default = \"x\" }\n\
         C = { env = \"SHOP_NUMBER\" }\n\
         D = { env = \"SHOP_NONE\", default = \"x\" }\n\
         E = { default = \"\", env = \"SHOP_NONE\" }\n\
         [vars.F]\nenv = \"SHOP_TOKEN\"\n",
    );
    let expected = [
        ("A", "hunter2"),
        // Set to nothing is set.
        ("B", ""),
        ("C", "7"),
        ("D", "x"),
        ("E", ""),
        ("F", "hunter2"),
    ];
    let expected: BTreeMap<String, Constant> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), text(value)))
        .collect();
    assert_eq!(read, expected);
}

#[test]
fn what_is_no_constant_is_told_at_its_line_all_at_once() {
    let text = "\
[vars]
a-b = 1
1st = 1
__ = 1
\"é\" = 1
OK = \"fine\"
WHEN = 1979-05-27
BIG = 99999999999999999999
NAN = nan
MIXED = [1, { env = \"SHOP_TOKEN\" }, [2024-01-01]]
DEEP = [[[[[1]]]]]
GONE = { env = \"SHOP_NONE\" }
MISSPELT = { evn = \"SHOP_NONE\", other = 1 }
NEITHER = {}
ALONE = { default = \"x\" }
NO_TEXT = { env = 5, default = 1 }
NO_NAME = { env = \"\" }
LISTED = { env = \"SHOP_NONE\", default = [\"a\"] }
OURS = { env = \"WAKEGATE_ADMIN_TOKEN\" }
";
    assert_eq!(
        errors_with(text, &ENV),
        "\
gateway.toml:2:1: [vars] a-b: is no name that scripts can write: it has letters, digits and _, and a digit is not first
gateway.toml:3:1: [vars] 1st: is no name that scripts can write: it has letters, digits and _, and a digit is not first
gateway.toml:4:1: [vars] __: is no name that scripts can write: it has letters, digits and _, and a digit is not first
gateway.toml:5:1: [vars] é: is no name that scripts can write: it has letters, digits and _, and a digit is not first
gateway.toml:7:1: [vars] WHEN: 1979-05-27 is a date (write \"1979-05-27\")
gateway.toml:8:1: [vars] BIG: 99999999999999999999 is out of range (-9223372036854775808 to 9223372036854775807)
gateway.toml:9:1: [vars] NAN: NaN is not a number that scripts can count with
gateway.toml:10:13: [vars] MIXED: a table cannot stand in a list
gateway.toml:10:38: [vars] MIXED: 2024-01-01 is a date (write \"2024-01-01\")
gateway.toml:11:12: [vars] DEEP: lists can stand in lists 4 deep, not deeper
gateway.toml:12:1: [vars] GONE: the environment variable SHOP_NONE is not set (set it, or write default = \"…\" beside env)
gateway.toml:13:14: [vars] MISSPELT: evn: unknown key (did you mean `env`?)
gateway.toml:13:33: [vars] MISSPELT: other: unknown key (there are env, default)
gateway.toml:14:1: [vars] NEITHER: a table here says which variable of the environment is meant (write { env = \"NAME\" })
gateway.toml:15:1: [vars] ALONE: a table here says which variable of the environment is meant (write { env = \"NAME\" })
gateway.toml:16:13: [vars] NO_TEXT: env: 5 is not a variable's name (try \"NAME\")
gateway.toml:16:22: [vars] NO_TEXT: default: what comes from the environment is always text (write \"1\")
gateway.toml:17:13: [vars] NO_NAME: env: \"\" is not a variable's name (try \"NAME\")
gateway.toml:18:31: [vars] LISTED: default: a list is not text, as what comes from the environment is
gateway.toml:19:10: [vars] OURS: env: \"WAKEGATE_ADMIN_TOKEN\" would set a key of this file, as all of WAKEGATE_… do (take another name)"
    );
}

#[test]
fn a_table_of_constants_is_a_table_and_is_found_when_misspelt() {
    assert_eq!(
        errors("vars = 1"),
        "gateway.toml:1:1: vars is a table (write [vars] on a line of its own)"
    );
    assert_eq!(
        errors("[var]\nA = 1"),
        "gateway.toml:1:2: [var]: unknown table (did you mean [vars]?)"
    );
}

#[test]
fn a_constant_that_no_script_could_hold_is_refused() {
    let limits = "[scripts]\nstring_bytes_max = 256\narray_items_max = 3\n[vars]\n";
    let (long, many) = ("x".repeat(257), "[1, [2, 3]]");
    assert_eq!(
        errors(&format!("{limits}A = \"{long}\"\nB = {many}\n")),
        "\
gateway.toml:5:1: [vars] A: has 257 bytes, and [scripts] string_bytes_max is 256
gateway.toml:6:1: [vars] B: has 4 items, and [scripts] array_items_max is 3"
    );
    let fits = format!("{limits}A = \"{}\"\nB = [1, [2]]\n", "x".repeat(256));
    assert!(read_with(&fits, &[]).is_ok());
    let from_outside = [("SHOP_LONG", long.as_str())];
    let told = errors_with(
        &format!("{limits}A = {{ env = \"SHOP_LONG\" }}"),
        &from_outside,
    );
    assert!(told.starts_with("gateway.toml:5:1: [vars] A: has 257 bytes"));
}

#[test]
fn syntax_errors_among_constants_are_told_once_and_hide_nothing() {
    assert_eq!(
        errors("[vars]\nA = eu\nAPI_TOKEN = hunter2\nB = 1979-05-27\nA = 1\nC = { env = x }\n"),
        "\
gateway.toml:2:5: eu has to be quoted (write \"eu\")
gateway.toml:3:13: the value has to be quoted
gateway.toml:4:1: [vars] B: 1979-05-27 is a date (write \"1979-05-27\")
gateway.toml:5:1: A is set a second time
gateway.toml:6:13: x has to be quoted (write \"x\")"
    );
}

#[test]
fn a_value_from_the_environment_stands_in_no_error_and_no_debug_output() {
    let given = "[vars]\nA = { env = \"SHOP_TOKEN\" }\n";
    let config = read_with(given, &ENV).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("\"A\"") && !shown.contains("hunter2"));
    let limits = "[scripts]\nstring_bytes_max = 256\n";
    let secret = "hunter2".repeat(100);
    let told = errors_with(&format!("{limits}{given}"), &[("SHOP_TOKEN", &secret)]);
    assert!(told.contains("has 700 bytes") && !told.contains("hunter2"));
}

#[test]
fn of_a_process_environment_the_listed_variables_are_read_and_no_others() {
    use std::os::unix::ffi::OsStringExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let variable =
        |name: &str, value: &[u8]| (OsString::from(name), OsString::from_vec(value.to_vec()));
    let environment = || {
        [
            variable("SHOP_TOKEN", b"hunter2"),
            variable("SHOP_BAD", b"\xff"),
            variable("OTHER_BAD", b"\xff"),
        ]
    };
    let from = |text: &str| {
        std::fs::write(&file, text).unwrap();
        meant::from_environment(Some(&file), environment())
    };
    let config = from("[vars]\nA = { env = \"SHOP_TOKEN\" }").unwrap();
    assert_eq!(config.scripts.given.vars["A"], text("hunter2"));
    let wrong = from(
        "[vars]\nA = { env = \"SHOP_BAD\" }\nB = { env = \"SHOP_BAD\", default = \"\" }\n\
         C = { env = \"SHOP_NONE\" }",
    );
    let at = file.display();
    assert_eq!(
        wrong.unwrap_err().to_string(),
        format!(
            "{at}:4:1: [vars] C: the environment variable SHOP_NONE is not set (set it, or write \
             default = \"…\" beside env)\nSHOP_BAD: is not UTF-8"
        )
    );
}

#[test]
fn constants_have_no_variable_of_ours() {
    let told = unknown_variables(["WAKEGATE_VARS_REGION"]);
    assert_eq!(
        told[0].to_string(),
        "WAKEGATE_VARS_REGION: unknown variable: [vars] is only set in gateway.toml, where \
         NAME = { env = \"…\" } takes a value from a variable of another name"
    );
}

#[test]
fn a_time_zone_is_found_by_its_name_or_refused_with_a_near_one() {
    let zone = |name: &str| {
        let config = read(&format!("[scripts]\ntime_zone = \"{name}\""));
        let zone = config.scripts.given.time_zone;
        zone.iana_name().unwrap().to_owned()
    };
    assert_eq!(zone("Europe/Berlin"), "Europe/Berlin");
    assert_eq!(zone("europe/berlin"), "Europe/Berlin");
    assert_eq!(zone("UTC"), "UTC");
    let env = [("WAKEGATE_SCRIPTS_TIME_ZONE", "Asia/Tokyo")];
    let config = read_with("", &env).unwrap();
    assert_eq!(
        config.scripts.given.time_zone.iana_name(),
        Some("Asia/Tokyo")
    );
    for (line, message) in [
        (
            "time_zone = \"Europe/Berln\"",
            "\"Europe/Berln\" is not a time zone (did you mean `Europe/Berlin`?)",
        ),
        (
            "time_zone = \"Berlin\"",
            "\"Berlin\" is not a time zone (did you mean `Europe/Berlin`?)",
        ),
        (
            "time_zone = \"/etc/localtime\"",
            "\"/etc/localtime\" is not a time zone (try \"UTC\" or \"Europe/Berlin\")",
        ),
        (
            "time_zone = \"Etc/Unknown\"",
            "\"Etc/Unknown\" is not a time zone (try \"UTC\" or \"Europe/Berlin\")",
        ),
        (
            "time_zone = 2",
            "2 is not a time zone (try \"UTC\" or \"Europe/Berlin\")",
        ),
    ] {
        assert_eq!(complaint("scripts", line), message, "{line}");
    }
}
