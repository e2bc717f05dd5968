//! `[apps.APP]`: stores, registries, env files, and what they may not be.

use std::path::Path;

use super::*;

fn app(text: &str) -> App {
    let config = read(&format!("[apps.shop]\n{text}"));
    config.apps[&AppName::new("shop").unwrap()].clone()
}

#[test]
fn an_application_is_one_without_a_single_key() {
    let name = AppName::new("shop").unwrap();
    let config = parse("[apps.shop]", "/etc/wakegate/gateway.toml", &no_env).unwrap();
    let expected = App {
        store: StoreLocation::File("/etc/wakegate/.wakegate/releases/shop".into()),
        journal: "/etc/wakegate/.wakegate/journal/shop.json".into(),
        ..App::new(&name)
    };
    assert_eq!(config.apps, BTreeMap::from([(name, expected)]));
    assert_eq!(read("[apps]").apps, BTreeMap::new());
}

#[test]
fn every_error_of_every_application_is_told_at_once() {
    let text = "\
[apps.shop]
kep = 3
keep = 51
pause_max = 30
rollback_failures_max = 2
[apps.\"a b\"]
keep = 1
[apps]
blog = true
[apps.a-name-of-more-than-forty-letters-and-digits]
[apps.api]
store_region = \"eu-central-1\"
health_path = \"up\"
";
    assert_eq!(
        errors(text),
        "\
gateway.toml:2:1: [apps.shop] kep: unknown key (did you mean `keep`?)
gateway.toml:3:1: [apps.shop] keep: 51 is out of range (0 to 50)
gateway.toml:4:1: [apps.shop] pause_max: 30 has no unit (write \"30s\")
gateway.toml:5:1: [apps.shop] rollback_failures_max: 2 is out of range (0 to 1)
gateway.toml:6:7: [apps.\"a b\"]: \"a b\" is not a name: it must start with a letter or digit and go on with letters, digits, '_', '.' or '-'
gateway.toml:9:1: apps.blog is a table (write [apps.blog])
gateway.toml:10:7: [apps.a-name-of-more-than-forty-letters-and-digits]: an application's name has 44 bytes; 40 are allowed
gateway.toml:12:1: [apps.api] store_region: is for a store on S3, and this one is file:.wakegate/releases/api
gateway.toml:13:1: [apps.api] health_path: \"up\" is not a path (try \"/up\")"
    );
}

#[test]
fn a_store_is_a_folder_or_a_bucket() {
    let base = Path::new("/etc/wakegate");
    let s3 = |bucket: &str, prefix: &str| StoreLocation::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    };
    let file = |path: &str| StoreLocation::File(path.into());
    // What is typed, what is meant, how that is written.
    for (typed, meant, written) in [
        (
            "file:releases/shop",
            file("/etc/wakegate/releases/shop"),
            "file:/etc/wakegate/releases/shop",
        ),
        ("file:/srv/r", file("/srv/r"), "file:/srv/r"),
        ("file:///srv/r", file("/srv/r"), "file:/srv/r"),
        ("s3://bucket", s3("bucket", ""), "s3://bucket"),
        ("s3://bucket/", s3("bucket", ""), "s3://bucket"),
        ("s3://my.b-1/a/b/", s3("my.b-1", "a/b"), "s3://my.b-1/a/b"),
    ] {
        let read = StoreLocation::parse(typed, base).unwrap();
        assert_eq!((&read, read.to_string().as_str()), (&meant, written));
        assert_eq!(StoreLocation::parse(written, base), Ok(meant), "{written}");
    }
    for (typed, message) in [
        (
            "releases/shop",
            "\"releases/shop\" does not say what it is (write \"file:releases/shop\")",
        ),
        (
            "gs://bucket/a",
            "\"gs://bucket/a\" is not a place to store releases (try \"file:releases/shop\" or \"s3://bucket/shop\")",
        ),
        ("file:", "\"file:\" names no folder (try \"file:releases\")"),
        (
            "s3:///a",
            "\"\" is not a bucket's name: that has 3 to 63 letters, digits, '.', '-' or '_' (try \"s3://bucket/prefix\")",
        ),
        (
            "s3://bucket/a//b",
            "\"a//b\" is not a prefix (try \"s3://bucket/shop\")",
        ),
        (
            "s3://bucket/../b",
            "\"../b\" is not a prefix (try \"s3://bucket/shop\")",
        ),
    ] {
        assert_eq!(StoreLocation::parse(typed, base), Err(message.to_owned()));
        let typed = format!("[apps.a]\nstore = {typed:?}");
        assert_eq!(
            errors(&typed),
            format!("gateway.toml:2:1: [apps.a] store: {message}")
        );
    }
}

#[test]
fn two_applications_have_two_stores() {
    assert_eq!(
        errors("[apps.a]\nstore = \"file:r\"\n[apps.b]\nkeep = 1\nstore = \"file:r\""),
        "gateway.toml:5:1: [apps.b] store: file:r is the store of a too; each application needs its own"
    );
    assert_eq!(
        errors("[apps.b]\n[apps.a]\nstore = \"file:.wakegate/releases/b\""),
        "gateway.toml:1:7: [apps.b] store: file:.wakegate/releases/b is the store of a too; each application needs its own"
    );
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path).display().to_string();
    std::fs::create_dir(at("real")).unwrap();
    std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
    let stores = |a: &str, b: &str| {
        format!("[apps.a]\nstore = \"file:{a}\"\n[apps.b]\nstore = \"file:{b}\"")
    };
    for same in ["./real/x", "link/x", "link/./y/../x", "nowhere/../real/x"] {
        let text = stores(&at("real/x"), &at(same));
        assert!(errors(&text).contains("needs its own"), "{text}");
    }
    assert!(read_with(&stores(&at("real/x"), &at("link/y")), &[]).is_ok());
    assert_eq!(
        errors("[apps.a]\njournal = \"j\"\n[apps.b]\njournal = \"./j\""),
        "gateway.toml:4:1: [apps.b] journal: ./j is the journal of a too; each application needs its own"
    );
    let on = |endpoint: &str| {
        format!("store = \"s3://bucket\"\nstore_endpoint = \"http://{endpoint}\"\n")
    };
    let two = |a: &str, b: &str| format!("[apps.a]\n{}[apps.b]\n{}", on(a), on(b));
    assert!(read_with(&two("s3.one", "s3.two"), &[]).is_ok());
    assert!(read_with(&two("s3.one", "s3.one"), &[]).is_err());
}

#[test]
fn a_registry_and_a_server_are_what_they_have_to_be() {
    for good in [
        "localhost:8080",
        "registry.example.com",
        "[::1]:5000",
        "10.0.0.1/team/web",
        "team",
    ] {
        assert_eq!(app(&format!("registry = {good:?}")).registry, good);
    }
    let registry = |typed: &str| complaint("apps.a", &format!("registry = {typed:?}"));
    assert_eq!(
        registry("http://localhost:8080/"),
        "\"http://localhost:8080/\" is a URL (write \"localhost:8080\")"
    );
    for bad in [
        "",
        "localhost:",
        "localhost:port",
        "a b",
        "user@host",
        "host/Team",
        "host/",
        "ftp://",
    ] {
        assert!(registry(bad).contains("is not a registry (try "), "{bad}");
    }
    for bad in [
        "",
        "127.0.0.1:9000",
        "ftp://a",
        "http://",
        "http://u@a",
        "http://a?b",
        "http://a:b",
    ] {
        let line = format!("store_endpoint = {bad:?}");
        let told = complaint("apps.a", &line);
        assert!(told.contains("is not a server's URL (try "), "{told}");
    }
}

#[test]
fn an_env_file_is_read_with_the_rest_and_its_errors_are_told_with_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let load_with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load(&file, &no_env)
    };
    let env = "# The shop's.\nDATABASE=postgres://db\nexport TOKEN='s3cr3t'\n";
    std::fs::write(folder.path().join("good.env"), env).unwrap();
    std::fs::write(folder.path().join("bad.env"), "A=1\nb c\nA=\"hunter2\n").unwrap();
    std::fs::write(folder.path().join("latin.env"), b"A=caf\xe9\n").unwrap();

    let config = load_with("[apps.shop]\nenv_file = \"good.env\"").unwrap();
    let shop = &config.apps[&AppName::new("shop").unwrap()];
    let given = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        shop.env,
        BTreeMap::from([given("DATABASE", "postgres://db"), given("TOKEN", "s3cr3t")])
    );
    assert_eq!(shop.env_file, Some(folder.path().join("good.env")));
    let shown = format!("{config:?}");
    assert!(
        shown.contains("TOKEN") && !shown.contains("s3cr3t"),
        "{shown}"
    );

    let at = folder.path().display();
    let text = "[apps.shop]\nenv_file = \"bad.env\"\n[hold]\ntime = 1";
    assert_eq!(
        load_with(text).unwrap_err().to_string(),
        format!(
            "\
{at}/gateway.toml:2:1: [apps.shop] env_file: {at}/bad.env:2: has no '=' (write KEY=VALUE, or # before a comment)
{at}/gateway.toml:2:1: [apps.shop] env_file: {at}/bad.env:3: the \" that begins the value is never closed
{at}/gateway.toml:4:1: [hold] time: 1 has no unit (write \"1s\")"
        )
    );
    for (name, why) in [
        ("none.env", "cannot be read: No such file or directory"),
        ("latin.env", "latin.env:1: is not UTF-8"),
        (".", "cannot be read: Is a directory"),
    ] {
        let text = format!("[apps.shop]\nenv_file = {name:?}");
        let told = load_with(&text).unwrap_err().to_string();
        assert!(
            told.contains("[apps.shop] env_file: ") && told.contains(why),
            "{told}"
        );
    }
}
