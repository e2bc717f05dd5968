//! Buckets of an S3 server that all lines share, looked into by plain HTTP.

use tokio::sync::OnceCell;

use crate::moto::{self, Moto};

/// A bucket and the prefix in it that is an application's store.
#[derive(Clone)]
pub struct Bucket {
    moto: &'static Moto,
    name: String,
}

const PREFIX: &str = "some/prefix";

/// Ends with this program, whose end it sees.
static MOTO: OnceCell<Moto> = OnceCell::const_new();

pub fn is_there() -> Result<(), String> {
    moto::find().map(drop)
}

impl Bucket {
    /// A new one.
    pub async fn new() -> Self {
        let start = || async {
            let program = moto::find().expect("the program");
            Moto::start(&program, &[]).await.expect("it starts")
        };
        let moto = MOTO.get_or_init(start).await;
        let name = format!("b{:08x}", fastrand::u32(..));
        moto.make_bucket(&name).await;
        Self { moto, name }
    }

    /// As `store` of gateway.toml names it.
    pub fn location(&self) -> String {
        format!("s3://{}/{PREFIX}", self.name)
    }

    /// The server's address and port.
    pub fn server(&self) -> &str {
        self.moto.url.trim_start_matches("http://")
    }

    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let path = format!("{}/{PREFIX}/{key}", self.name);
        self.moto.get(&path).await.map(|bytes| bytes.to_vec())
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) {
        let path = format!("{}/{PREFIX}/{key}", self.name);
        self.moto.put(&path, bytes.to_vec(), "").await;
    }
}
