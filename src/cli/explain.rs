//! `wakegate explain`: why a request is decided as it is, by the directory or by a running gateway.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;

use super::{ConfigFile, say};
use crate::admin::client::Client;
use crate::app;
use crate::clock::unix_seconds;
use crate::config::Config;
use crate::script::explain::{Explanation, Wish};
use crate::script::version::on_a_deep_stack;

#[derive(Debug, Args)]
pub struct Explain {
    /// GET, POST, …
    method: String,
    /// /path?query, or http://host/path?query
    url: String,
    /// A header, 'Name: value'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The address that the request comes from [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// When it comes, such as 2026-01-05T09:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Ask the running gateway, which also knows the workload, instead of the scripts directory
    #[arg(long)]
    live: bool,
    /// JSON in place of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err("a header is 'Name: value'".to_owned()),
    }
}

/// Exit code 1 also when the scripts fail on the request.
pub fn run(what: Explain) -> anyhow::Result<ExitCode> {
    let config = what.config.load()?;
    let wish = Wish {
        method: what.method,
        url: what.url,
        headers: what.headers,
        client: what.client,
        at: what.at,
    };
    let explanation = if what.live {
        by_gateway(&config, &wish)?
    } else {
        by_directory(&config, &wish)?
    };
    if what.json {
        say(&(serde_json::to_string_pretty(&explanation)? + "\n"));
    } else {
        say(&explanation.to_string());
    }
    Ok(match explanation.error {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

fn by_directory(config: &Config, wish: &Wish) -> anyhow::Result<Explanation> {
    let head = wish.head(unix_seconds()).map_err(|wrong| anyhow!(wrong))?;
    let version = app::load_scripts(&config.scripts)?;
    Ok(on_a_deep_stack(|| version.explain(&head)))
}

fn by_gateway(config: &Config, wish: &Wish) -> anyhow::Result<Explanation> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    Ok(runtime.block_on(Client::of(&config.admin).explain(wish))?)
}
