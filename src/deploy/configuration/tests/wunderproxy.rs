//! The form that wunderproxy wrote: taken, with warnings for what is done otherwise here.

use super::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn what_wunderproxy_wrote_is_taken() {
    let text = r#"{
        "ContainerConfig": {
            "Image": "localhost:5000/shop:2024-11-24.3",
            "Env": ["RAILS_ENV=production", "EMPTY=", "URL=postgres://a?b=c"],
            "ExposedPorts": {"9292/tcp": {}, "9292": {}},
            "Cmd": ["bundle", "exec", "puma"],
            "Memory": 268435456
        },
        "HostConfig": {"Binds": ["/srv/shop:/data"], "PublishAllPorts": false, "PortBindings": {}},
        "HealthCheckPath": "/status",
        "Revision": "abc123",
        "ForceReload": true
    }"#;
    let expected = LaunchConfiguration {
        image: Some("localhost:5000/shop:2024-11-24.3".to_owned()),
        revision: "abc123".to_owned(),
        command: Some(["bundle", "exec", "puma"].map(str::to_owned).to_vec()),
        envs: table([
            ("RAILS_ENV", "production"),
            ("EMPTY", ""),
            ("URL", "postgres://a?b=c"),
        ]),
        port: Some(9292),
        memory: Some(256 << 20),
        binds: vec!["/srv/shop:/data".to_owned()],
        health: Some(HealthCheck {
            path: "/status".to_owned(),
            timeout: None,
            interval: None,
        }),
        pull: Pull::Always,
        ..LaunchConfiguration::default()
    };
    assert_eq!(own(text), expected);
}

#[test]
fn what_is_done_otherwise_here_is_a_warning_with_its_path() {
    let text = r#"{
        "ContainerConfig": {
            "Hostname": "shop",
            "Image": "shop:1",
            "Env": ["A=1", "hunter2", "A=2", "=hunter2"],
            "ExposedPorts": {"53/udp": {}, "80": {}, "90/sctp": {}},
            "Volumes": {"/data": {}},
            "Memroy": 1
        },
        "HostConfig": {
            "PublishAllPorts": true,
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
            "RestartPolicy": {"Name": "always"}
        },
        "Banana": 1,
        "revision": "own form"
    }"#;
    let (read, warnings) = read(text);
    assert_eq!(
        warnings,
        [
            "ContainerConfig.Hostname: is not known here and is ignored",
            "ContainerConfig.Env[1]: has no '=', so it sets nothing and is ignored",
            "ContainerConfig.Env[2]: sets \"A\" again; the last one counts",
            "ContainerConfig.Env[3]: has no name before the '=' and is ignored",
            "ContainerConfig.ExposedPorts.53/udp: is not TCP, which the gateway speaks, and is ignored",
            "ContainerConfig.ExposedPorts.90/sctp: is not TCP, which the gateway speaks, and is ignored",
            "ContainerConfig.Volumes: is not known here and is ignored",
            "ContainerConfig.Memroy: is not known here and is ignored",
            "HostConfig.PublishAllPorts: is not carried out: no port is published, the gateway reaches the container at its own address",
            "HostConfig.PortBindings: is not carried out: no port is published, the gateway reaches the container at its own address",
            "HostConfig.RestartPolicy: is not known here and is ignored",
            "Banana: is not known here and is ignored",
            "revision: is not known here and is ignored",
        ]
    );
    let expected = LaunchConfiguration {
        image: Some("shop:1".to_owned()),
        revision: "1".to_owned(),
        envs: table([("A", "2")]),
        port: Some(80),
        ..LaunchConfiguration::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn an_image_that_cannot_be_one_is_an_error_here_too() {
    assert_eq!(
        problems(r#"{"ContainerConfig": {"Image": "shop:"}}"#),
        "ContainerConfig.Image: \"shop:\" does not name an image: its tag is not 1 to 128 letters, \
         digits, '_', '.' and '-' (line 1, column 31)"
    );
}

#[test]
fn of_several_ports_the_lowest_is_taken_with_a_warning() {
    let text = |ports: &str| {
        format!(r#"{{"ContainerConfig": {{"Image": "shop:1", "ExposedPorts": {ports}}}}}"#)
    };
    let (of_two, warnings) = read(&text(r#"{"9292/tcp": {}, "53/udp": {}, "80": {}}"#));
    assert_eq!(of_two.port, Some(80));
    assert_eq!(
        warnings,
        [
            "ContainerConfig.ExposedPorts.53/udp: is not TCP, which the gateway speaks, and is ignored",
            "ContainerConfig.ExposedPorts: has 2 TCP ports, of which the lowest, 80, gets the requests",
        ]
    );
    let (of_none, warnings) = read(&text("{}"));
    assert_eq!((of_none.port, warnings.len()), (None, 0));
}

#[test]
fn a_whole_number_is_one_however_it_is_written() {
    for (memory, bytes) in [
        ("67108864.0", Some(67_108_864)),
        ("6.7e7", Some(67_000_000)),
        ("1E+6", Some(1_000_000)),
        ("0.0", None),
    ] {
        let text = format!(r#"{{"ContainerConfig": {{"Image": "shop:1", "Memory": {memory}}}}}"#);
        assert_eq!(own(&text).memory, bytes, "{memory}");
    }
    for (memory, message) in [
        ("67108864.5", "67108864.5 is not a whole number"),
        ("1e-7", "1e-7 is not a whole number"),
        ("1e300", "1e+300 is out of range (0 to 9223372036854775807)"),
        (
            "-1e300",
            "-1e+300 is out of range (0 to 9223372036854775807)",
        ),
    ] {
        let text = format!(r#"{{"ContainerConfig": {{"Image": "shop:1", "Memory": {memory}}}}}"#);
        let told = problems(&text);
        assert!(told.contains(message), "{memory}: {told}");
    }
    assert_eq!(
        own(r#"{"revision": "1", "memory": 6.7e7, "port": 8e3}"#),
        own(r#"{"revision": "1", "memory": 67000000, "port": 8000}"#)
    );
}

#[test]
fn what_go_writes_for_nothing_is_nothing() {
    let text = r#"{
        "ContainerConfig": {
            "Image": "shop:1", "Env": null, "ExposedPorts": null, "Cmd": null, "Memory": 0
        },
        "HostConfig": {"PublishAllPorts": false, "Binds": null, "PortBindings": null},
        "HealthCheckPath": "",
        "Revision": "",
        "ForceReload": false
    }"#;
    let expected = LaunchConfiguration {
        image: Some("shop:1".to_owned()),
        revision: "1".to_owned(),
        ..LaunchConfiguration::default()
    };
    assert_eq!(own(text), expected);
    let empty = r#"{"ContainerConfig": {"Image": "shop:1", "Cmd": []}, "HostConfig": null}"#;
    assert_eq!(own(empty), expected);
    assert_eq!(
        own(r#"{"ContainerConfig": {"Image": "shop:1", "Cmd": "puma"}}"#).command,
        Some(vec!["puma".to_owned()])
    );
}

#[test]
fn a_revision_that_is_not_told_is_the_images_tag() {
    for (image, revision) in [
        ("shop:1.2", "1.2"),
        ("localhost:5000/shop:v3", "v3"),
        ("localhost:5000/shop", ""),
        ("shop", ""),
        (&format!("shop@{DIGEST}"), ""),
        (&format!("shop:7@{DIGEST}"), "7"),
    ] {
        let text = format!(r#"{{"ContainerConfig": {{"Image": {image:?}}}}}"#);
        assert_eq!(own(&text).revision, revision, "{image}");
    }
    let named = r#"{"ContainerConfig": {}, "Revision": "v1"}"#;
    let named = own(named);
    assert_eq!(named.revision, "v1");
    assert_eq!(named.image(&app("shop"), "r:1"), "r:1/shop:v1");
}

#[test]
fn what_is_of_the_wrong_type_is_an_error_here_too() {
    let text = r#"{
  "ContainerConfig": {
    "Image": 1,
    "Env": {"A": "1"},
    "ExposedPorts": {"http/tcp": {}, "0/tcp": {}, "99999/tcp": {}},
    "Cmd": [1],
    "Memory": -1,
    "Memory": 1
  },
  "HostConfig": [],
  "HealthCheckPath": "status",
  "Revision": "a\nb",
  "ForceReload": "yes"
}"#;
    assert_eq!(
        problems(text),
        "\
ContainerConfig.Image: a number, where text (in quotes) is expected (line 3, column 14)
ContainerConfig.Env: an object, where a list is expected (line 4, column 12)
ContainerConfig.ExposedPorts.http/tcp: is not a port (try \"9292/tcp\") (line 5, column 22)
ContainerConfig.ExposedPorts.0/tcp: is not a port (try \"9292/tcp\") (line 5, column 38)
ContainerConfig.ExposedPorts.99999/tcp: is not a port (try \"9292/tcp\") (line 5, column 51)
ContainerConfig.Cmd[0]: a number, where text (in quotes) is expected (line 6, column 13)
ContainerConfig.Memory: -1 is out of range (0 to 9223372036854775807) (line 7, column 15)
ContainerConfig.Memory: is set a second time (line 8, column 5)
HostConfig: a list, where an object is expected (line 10, column 17)
HealthCheckPath: \"status\" is not a path (try \"/up\") (line 11, column 22)
Revision: has characters that cannot be printed (line 12, column 15)
ForceReload: text, where true or false is expected (line 13, column 18)"
    );
    assert_eq!(
        problems(r#"{"ContainerConfig": null}"#),
        "ContainerConfig: null, where an object is expected (line 1, column 21)\n\
         ContainerConfig.Image: is missing, and the revision has nothing in it that could be its tag"
    );
}

#[test]
fn only_so_many_warnings_are_told() {
    let keys: Vec<String> = (0..10_000).map(|n| format!("\"Key{n}\": 1")).collect();
    let text = format!(
        r#"{{"ContainerConfig": {{"Image": "i:1", {}}}}}"#,
        keys.join(",")
    );
    let (_, warnings) = read(&text);
    assert_eq!(warnings.len(), values::TOLD_MAX + 1);
    assert_eq!(
        warnings[values::TOLD_MAX],
        "and there is more that is ignored"
    );
}
