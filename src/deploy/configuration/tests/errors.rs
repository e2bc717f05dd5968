//! What is wrong with a launch configuration, exactly.

use proptest::prelude::*;

use super::*;

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let text = r#"{
  "imge": "shop:1",
  "image": "shop 1",
  "revision": 42,
  "command": ["serve", 1, null],
  "envs": {"PORT": 8080, "A=B": "1", "GOOD": "x"},
  "port": 70000,
  "memory": "much",
  "cpus": 0,
  "pids": 1.5,
  "network": "",
  "binds": "/srv:/srv",
  "labels": {"wakegate.app": "blog", "wakegate.health.path": "/", "": "x"},
  "health": {"pth": "/up", "timeout": 60, "interval": "0s"},
  "archive": "../images/shop.tar",
  "pull": "sometimes",
  "privileged": "yes",
  "cap_add": {},
  "port": 80,
  "name": "shop-1",
  "banana": 1
}"#;
    assert_eq!(
        problems(text),
        "\
imge: unknown key (did you mean `image`?) (line 2, column 3)
image: \"shop 1\" has blanks in it (line 3, column 12)
revision: a number, where text (in quotes) is expected (line 4, column 15)
command[1]: a number, where text (in quotes) is expected (line 5, column 24)
command[2]: null, where text is expected (line 5, column 27)
envs.PORT: a number, where text (in quotes) is expected (line 6, column 20)
envs.A=B: cannot be a variable's name: that is not empty and has no '=' or NUL (line 6, column 26)
port: 70000 is out of range (1 to 65535) (line 7, column 11)
memory: \"much\" is not a size (try \"256MiB\", or a number of bytes) (line 8, column 13)
cpus: 0 is not a positive number (line 9, column 11)
pids: 1.5 is not a whole number (line 10, column 11)
network: is empty (line 11, column 14)
binds: text, where a list is expected (line 12, column 12)
labels.wakegate.app: is a label of the gateway's own: the gateway writes it (line 13, column 14)
labels.wakegate.health.path: is a label of the gateway's own: set `health` in its place (line 13, column 38)
labels.: a label needs a name (line 13, column 67)
health.path: is missing: it is the path that is asked (try \"path\": \"/up\") (line 14, column 13)
health.pth: unknown key (did you mean `path`?) (line 14, column 14)
health.timeout: 60 has no unit (write \"60s\") (line 14, column 39)
health.interval: \"0s\" is out of range (1ms to 1h) (line 14, column 55)
archive: \"../images/shop.tar\" is not a key below the store's prefix (try \"images/shop-42.tar\") (line 15, column 14)
pull: is none of \"missing\", \"always\" (line 16, column 11)
privileged: text, where true or false is expected (line 17, column 17)
cap_add: an object, where a list is expected (line 18, column 14)
port: is set a second time (line 19, column 3)
name: unknown key: the container's name is made of the application, the revision and the hash (line 20, column 3)
banana: unknown key (there are image, revision, command, envs, port, memory, cpus, pids, network, binds, labels, health, archive, pull, privileged, cap_add, devices) (line 21, column 3)"
    );
}

#[test]
fn what_is_no_json_object_is_told_with_its_place() {
    for (text, message) in [
        ("", "it is empty; it has to be a JSON object"),
        (" \n ", "it is empty; it has to be a JSON object"),
        ("[1]", "it has to be a JSON object (line 1, column 1)"),
        (" \"x\"", "it has to be a JSON object (line 1, column 2)"),
        (
            "{\n  \"revision\": nope\n}",
            "it is not JSON: expected ident (line 2, column 16)",
        ),
        (
            "{\"revision\": \"1\"",
            "it is not JSON: EOF while parsing an object (line 1, column 16)",
        ),
        (
            "{\"revision\": \"1\"} x",
            "it is not JSON: trailing characters (line 1, column 19)",
        ),
        (
            "{\"revision\": \"\\ud800\"}",
            "it is not JSON: unexpected end of hex escape (line 1, column 14)",
        ),
        (
            "{\"a\": \"é\",\n \"cpus\": 1e999}",
            "it is not JSON: number out of range (line 2, column 10)",
        ),
    ] {
        assert_eq!(problems(text), message, "{text}");
    }
    let latin = LaunchConfiguration::read(b"{\"a\":\n \"caf\xe9\"}").unwrap_err();
    assert_eq!(latin.to_string(), "it is not UTF-8 (line 2, column 6)");
    let deep = ["[", "]"].map(|bracket| bracket.repeat(100_000)).concat();
    let deep = problems(&format!("{{\"revision\": {deep}}}"));
    assert_eq!(
        deep,
        "objects and lists stand in each other more than 32 deep (line 1, column 45)"
    );
    let large = format!("{{\"revision\": \"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(problems(&large), "it has more than 1048576 bytes");
}

#[test]
fn a_revision_is_needed_and_can_be_printed() {
    assert_eq!(
        problems("{}"),
        "revision: is missing: it says which release this is (try \"revision\": \"42\")"
    );
    assert_eq!(problems(r#"{"revision": null}"#), problems("{}"));
    let told = |revision: &str| {
        let quoted = serde_json::Value::from(revision).to_string();
        problems(&format!(r#"{{"image": "i", "revision": {quoted}}}"#))
    };
    assert_eq!(told(" "), "revision: is empty (line 1, column 28)");
    let unprintable = "revision: has characters that cannot be printed (line 1, column 28)";
    for bad in [
        "a\nb",
        "a\u{1b}[0m",
        "a\u{202e}b",
        "\u{200b}",
        "a\u{a0}b",
        "\u{e000}",
    ] {
        assert_eq!(told(bad), unprintable, "{bad:?}");
    }
    assert_eq!(
        told(&"é".repeat(65)),
        "revision: has 130 bytes; 128 are allowed (line 1, column 28)"
    );
    let longest = format!(r#"{{"image": "i", "revision": "{}"}}"#, "é".repeat(64));
    assert_eq!(own(&longest).revision.len(), 128);
}

#[test]
fn an_image_has_to_be_named_where_the_revision_cannot_be_its_tag() {
    assert_eq!(
        problems(r#"{"revision": "???"}"#),
        "image: is missing, and the revision has nothing in it that could be its tag"
    );
    assert_eq!(own(r#"{"revision": "???", "image": "i"}"#).revision, "???");
}

#[test]
fn an_image_that_cannot_be_one_is_an_error() {
    let told = |image: &str| problems(&format!(r#"{{"revision": "1", "image": {image:?}}}"#));
    let place = "(line 1, column 28)";
    let of_repository =
        "its repository is lower-case letters and digits, with single separators in between";
    for image in ["UPPER/x:1", "localhost:8080/Shop:1", "-", "a//b"] {
        let message = format!("image: {image:?} does not name an image: {of_repository} {place}");
        assert_eq!(told(image), message);
    }
    assert_eq!(
        told("http://localhost:8080/shop:1"),
        format!(
            "image: \"http://localhost:8080/shop:1\" does not name an image: \
             its registry is not a host with or without a port {place}"
        )
    );
    assert!(told("shop@sha256:12").contains("does not name an image: its digest is not"));
    let long = told(&format!("shop:{}", "x".repeat(400)));
    assert!(
        long.contains("…\" does not name an image: its tag is not") && long.len() < 200,
        "{long}"
    );
    // What the engine has may be named by its id, which no registry knows.
    let digits = "0123456789abcdef".repeat(4);
    for image in [
        &digits,
        &format!("sha256:{digits}"),
        &format!("shop@sha256:{digits}"),
    ] {
        let read = own(&format!(r#"{{"revision": "1", "image": {image:?}}}"#));
        assert_eq!(read.image.as_ref(), Some(image));
    }
}

#[test]
fn no_value_of_a_variable_is_told_and_no_text_of_any_length() {
    let long = "x".repeat(10_000);
    for text in [
        r#"{"revision": "1", "envs": {"A": ["hunter2"], "B": {"c": "hunter2"}}}"#.to_owned(),
        r#"{"revision": "1", "envs": "A=hunter2"}"#.to_owned(),
        r#"{"revision": "1", "envs": {"A": "hunter2", "A": "hunter2"}}"#.to_owned(),
        r#"{"revision": "1", "envs": {"A": "hunter2\u0000"}}"#.to_owned(),
        r#"{"revision": "1", "\u001b[31m\n": 1}"#.to_owned(),
        format!(r#"{{"revision": "1", "{long}": 1, "memory": "{long}", "image": "{long}"}}"#),
        format!(r#"{{"revision": "1", "network": "a {}"}}"#, "x".repeat(500)),
    ] {
        let told = problems(&text);
        assert!(!told.contains("hunter2") && told.len() < 1_000, "{told}");
        assert!(!told.contains('\u{1b}'), "{told:?}");
    }
}

#[test]
fn only_so_many_problems_are_told() {
    let keys: Vec<String> = (0..10_000).map(|n| format!("\"key{n}\": 1")).collect();
    let error = LaunchConfiguration::read(format!("{{{}}}", keys.join(",")).as_bytes());
    assert_eq!(error.unwrap_err().problems.len(), values::TOLD_MAX);
}

#[test]
fn a_key_that_is_written_with_escapes_is_known_too() {
    assert_eq!(own(r#"{"r\u0065vision": "1"}"#).revision, "1");
    assert_eq!(
        problems(r#"{"revision": "1", "\u0062anan": 1}"#)
            .split(" (there")
            .next(),
        Some("banan: unknown key")
    );
}

/// JSON of the pieces that mean something here.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaves = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(80),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("/up"),
        json!("A=b"),
        json!("80/tcp"),
        json!("60s"),
        json!("\u{0}é\u{202e}"),
    ];
    let names = own::KEYS.into_iter().chain([
        "ContainerConfig",
        "HostConfig",
        "Image",
        "Env",
        "ExposedPorts",
        "Cmd",
        "Memory",
        "PublishAllPorts",
        "Binds",
        "HealthCheckPath",
        "Revision",
        "ForceReload",
        "path",
        "timeout",
        "80/tcp",
        "x/tcp",
        "",
    ]);
    let names = proptest::sample::select(names.collect::<Vec<_>>());
    let leaf = proptest::sample::select(leaves.to_vec());
    leaf.prop_recursive(3, 40, 10, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((names.clone(), inner), 0..10).prop_map(|members| {
                let members = members.into_iter();
                Value::Object(members.map(|(name, v)| (name.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_the_reader_panic_and_what_is_wrong_has_its_place(
        members in proptest::collection::vec((proptest::sample::select(
            ["revision", "envs", "health", "labels", "ContainerConfig", "HostConfig", "Revision"].to_vec()
        ), json()), 0..6),
        pretty in any::<bool>(),
    ) {
        let members: serde_json::Map<_, _> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let text = if pretty {
            serde_json::to_string_pretty(&members).unwrap()
        } else {
            serde_json::to_string(&members).unwrap()
        };
        match LaunchConfiguration::read(text.as_bytes()) {
            // What was read can be launched: the names that are made of it are names.
            Ok((read, _)) => {
                let spec = read.spec(&app("shop"), &hash(), &given());
                prop_assert!(!spec.image.is_empty());
                prop_assert_eq!(HealthCheck::from_labels(&spec.labels).map(|c| c.is_some()), Ok(read.health.is_some()));
            }
            Err(error) => {
                prop_assert!(!error.problems.is_empty());
                for problem in error.problems {
                    if let Some(line) = problem.line {
                        prop_assert!(line >= 1 && line <= text.lines().count(), "{}", problem);
                    }
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "(?s).{0,60}") {
        drop(LaunchConfiguration::read(&bytes));
        drop(LaunchConfiguration::read(text.as_bytes()));
    }
}
