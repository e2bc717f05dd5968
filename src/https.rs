//! Requests to servers outside, over HTTP or HTTPS: whom to trust, and through which proxy.
//!
//! Certificates: Mozilla's root certificates are compiled in, so that nothing has to be installed
//! beside the binary and it works in an empty image. Where the variable `SSL_CERT_FILE` names a
//! file of PEM certificates (or `AWS_CA_BUNDLE` does, which goes first), these alone are trusted:
//! for a server with a certificate of its own authority, or to follow the system's own bundle
//! (on Debian `/etc/ssl/certs/ca-certificates.crt`).
//!
//! Proxies: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or small, as curl
//! reads them. A proxy is spoken to by `http://`; to HTTPS servers it is only asked for a tunnel.
//!
//! Names: the C library resolves them, by `/etc/hosts` and `/etc/resolv.conf`; an engine writes
//! both into every container.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection that nobody uses is kept. Servers close theirs after 5 to 20 s.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// Never asked through a proxy: where a cloud's own machines get their credentials from.
const METADATA_HOSTS: &str = "169.254.0.0/16,fd00:ec2::/32";

/// Where to look for variables of the environment.
pub trait Environment: Fn(&str) -> Option<String> {}

impl<F: Fn(&str) -> Option<String>> Environment for F {}

/// Makes requests with bodies of type `B`, and keeps connections for the next ones. Cloning is
/// cheap. HTTP/1.1 only; redirects are answers like others.
#[derive(Clone)]
pub struct HttpsClient<B> {
    client: Client<HttpsConnector<Way>, B>,
    proxies: Arc<Matcher>,
}

impl<B> HttpsClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// A client that gives up a connection attempt (TCP, not TLS) after `connect_time_max`.
    pub fn new(trusted: ClientConfig, proxies: Arc<Matcher>, connect_time_max: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(connect_time_max));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(15)));
        let way = Way {
            tcp,
            proxies: proxies.clone(),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trusted)
            .https_or_http()
            .enable_http1()
            .wrap_connector(way);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .build(connector);
        Self { client, proxies }
    }

    /// Sends a request and returns the answer's head. Without a limit on time besides connecting.
    pub async fn send(&self, mut request: Request<B>) -> Result<Response<Incoming>, Error> {
        if let Some(credentials) = self.plain_proxy_credentials(request.uri()) {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, credentials);
        }
        self.client.request(request).await
    }

    /// A tunnel's credentials go with its own request; without a tunnel they go with each.
    fn plain_proxy_credentials(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.proxies.intercept(uri)?.basic_auth().cloned()
    }
}

/// The TLS configuration for servers outside: whose certificates are trusted, see the file's top.
/// The error names the variable and the file.
pub fn trusted(env: impl Environment) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let named = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"]
        .into_iter()
        .find_map(|variable| Some((variable, set(&env, variable)?)));
    match named {
        Some((variable, path)) => {
            let unusable = |reason: String| format!("{variable}: {path}: {reason}");
            let certificates =
                CertificateDer::pem_file_iter(&path).map_err(|e| unusable(e.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
                // A bundle may have old ones in it that cannot be used any more.
                let _ = roots.add(certificate);
            }
            if roots.is_empty() {
                return Err(unusable("there is no usable PEM certificate".to_owned()));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Which requests go through which proxy, as the environment says.
pub fn proxies(env: impl Environment) -> Arc<Matcher> {
    let first = |name: &str| {
        set(&env, &name.to_uppercase())
            .or_else(|| set(&env, name))
            .unwrap_or_default()
    };
    let no = [&first("no_proxy"), METADATA_HOSTS].map(str::to_owned);
    let matcher = Matcher::builder()
        .all(first("all_proxy"))
        .http(first("http_proxy"))
        .https(first("https_proxy"))
        .no(no.join(","));
    Arc::new(matcher.build())
}

/// A variable's value; an empty one is as good as none.
fn set(env: &impl Environment, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// Connects to a server, or to the proxy before it.
#[derive(Clone)]
struct Way {
    tcp: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Way {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let proxy = self.proxies.intercept(&to);
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(Stream::direct(tcp.call(to).await?));
            };
            if proxy.uri().scheme_str() != Some("http") {
                return Err("only proxies with http:// addresses can be used".into());
            }
            let connected = through(proxy, tcp, to).await;
            connected.map_err(|error| format!("through the proxy: {error}").into())
        })
    }
}

async fn through(proxy: Intercept, mut tcp: HttpConnector, to: Uri) -> Result<Stream, BoxError> {
    if to.scheme_str() == Some("http") {
        return Ok(Stream {
            io: tcp.call(proxy.uri().clone()).await?,
            to_plain_proxy: true,
        });
    }
    let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
    if let Some(credentials) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(credentials.clone());
    }
    Ok(Stream::direct(tunnel.call(to).await?))
}

/// A connection that knows whether requests on it must name their server.
struct Stream {
    io: TokioIo<TcpStream>,
    to_plain_proxy: bool,
}

impl Stream {
    fn direct(io: TokioIo<TcpStream>) -> Self {
        Self {
            io,
            to_plain_proxy: false,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.to_plain_proxy)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Asks for an address with a proxy that answers `refusal`; returns what the proxy was asked
    /// and what the client says.
    async fn through_a_proxy(url: &str, proxy: &str, refusal: &str) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = proxy.replace("PORT", &port.to_string());
        let env = |name: &str| (name == "ALL_PROXY").then(|| proxy.clone());
        let client: HttpsClient<Empty<bytes::Bytes>> = HttpsClient::new(
            trusted(|_| None).unwrap(),
            proxies(env),
            Duration::from_secs(30),
        );
        let request = Request::get(url).body(Empty::new()).unwrap();
        let asked = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            connection.write_all(refusal.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let sent = client.send(request);
        let (asked, answer) = if refusal.is_empty() {
            (String::new(), sent.await)
        } else {
            tokio::join!(asked, sent)
        };
        let said = match answer {
            Ok(answer) => answer.status().to_string(),
            Err(error) => {
                let causes = std::iter::successors(std::error::Error::source(&error), |error| {
                    error.source()
                });
                causes.map(|cause| format!("{cause}; ")).collect()
            }
        };
        (asked, said)
    }

    #[tokio::test]
    async fn an_https_server_is_reached_by_a_tunnel_and_an_http_one_by_its_whole_address() {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        let (asked, said) = through_a_proxy(
            "https://s3.test/bucket?x=1",
            "http://ada:p%3Ass@127.0.0.1:PORT",
            refusal,
        )
        .await;
        assert!(
            asked.starts_with("CONNECT s3.test:443 HTTP/1.1\r\n"),
            "{asked}"
        );
        // "ada:p:ss"
        let credentials = "proxy-authorization: basic ywrhona6c3m=";
        assert!(asked.to_lowercase().contains(credentials), "{asked}");
        assert!(!asked.contains("bucket"), "{asked}");
        assert!(said.contains("through the proxy: "), "{said}");
        assert!(!said.contains("p:ss") && !said.contains("p%3Ass"), "{said}");

        let (asked, said) =
            through_a_proxy("http://s3.test/bucket?x=1", "127.0.0.1:PORT", refusal).await;
        assert!(
            asked.starts_with("GET http://s3.test/bucket?x=1 HTTP/1.1\r\n"),
            "{asked}"
        );
        assert!(said.starts_with("407"), "{said}");
    }

    #[tokio::test]
    async fn a_proxy_that_cannot_be_spoken_to_is_an_error_and_no_way_around_it() {
        for proxy in ["https://127.0.0.1:PORT", "socks5://127.0.0.1:PORT"] {
            let (_, said) = through_a_proxy("https://s3.test/", proxy, "").await;
            assert!(said.contains("only proxies with http://"), "{said}");
        }
    }

    #[test]
    fn a_clouds_own_addresses_are_never_asked_through_a_proxy() {
        let matcher = proxies(|name| (name == "ALL_PROXY").then(|| "http://proxy:1".to_owned()));
        let is_proxied = |uri: &str| matcher.intercept(&uri.parse().unwrap()).is_some();
        assert!(is_proxied("http://10.0.0.1/") && is_proxied("https://sts.amazonaws.com/"));
        for metadata in [
            "http://169.254.169.254/latest",
            "http://169.254.170.2/creds",
            "http://[fd00:ec2::254]/latest",
        ] {
            assert!(!is_proxied(metadata), "{metadata}");
        }
    }

    #[test]
    fn certificates_are_compiled_in_and_a_named_bundle_must_have_some() {
        assert!(trusted(|_| None).is_ok());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let env = |name: &str| (name == "SSL_CERT_FILE").then(|| path.display().to_string());
        assert!(trusted(env).unwrap_err().contains("No such file"));
        for content in ["", "not PEM", "-----BEGIN CERTIFICATE-----\n"] {
            std::fs::write(&path, content).unwrap();
            let error = trusted(env).unwrap_err();
            assert!(error.starts_with("SSL_CERT_FILE: "), "{content:?}: {error}");
        }
    }
}
