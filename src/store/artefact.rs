//! Artefacts: objects of any size, given out as a stream.

use std::fs::File;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{GetResultPayload, ObjectStoreExt};
use tokio_util::io::ReaderStream;

use super::error::{Place, StoreError, is_missing};
use super::location::unfit_key;
use super::{Doing, Shared};

/// The longest key, in bytes, as S3 has it.
const KEY_BYTES_MAX: usize = 1024;

/// How much of a file is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// An artefact that is being read.
pub struct Artefact {
    /// In bytes.
    pub length: u64,
    /// Exactly so many bytes, or an error. No part is waited for longer than the limit for an
    /// answer; a download that breaks off is taken up again where it was.
    pub bytes: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl std::fmt::Debug for Artefact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Artefact({} bytes)", self.length)
    }
}

pub(super) async fn open(shared: &Shared, key: &str) -> Result<Artefact, StoreError> {
    let place = &shared.place;
    let reason = match key.len() {
        KEY_BYTES_MAX.. => Some("it is too long"),
        _ => unfit_key(key),
    };
    if let Some(reason) = reason {
        let shown: String = key.chars().take(100).collect();
        return Err(place.malformed(&format!("the key {shown:?}"), reason));
    }
    let doing = Doing::from(format!("reading {key}"));
    let object = match shared.archives.get(&shared.path(key)).await {
        Ok(object) => object,
        Err(error) if is_missing(&error) => {
            return Err(StoreError::UnknownArtefact {
                place: place.clone(),
                key: key.to_owned(),
            });
        }
        Err(error) => return Err(place.error(doing, &error)),
    };
    let length = object.meta.size;
    let parts = match object.payload {
        GetResultPayload::File(file, _) => file_parts(file, place.clone(), doing.clone()),
        GetResultPayload::Stream(parts) => {
            let (place, doing) = (place.clone(), doing.clone());
            let failed = move |error| place.error(doing.clone(), &error);
            parts.map_err(failed).boxed()
        }
    };
    Ok(Artefact {
        length,
        bytes: exactly(length, parts, place.clone(), doing),
    })
}

fn file_parts(
    file: File,
    place: Place,
    doing: Doing,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let file = tokio::fs::File::from_std(file);
    let parts = ReaderStream::with_capacity(file, READ_BYTES);
    let failed = move |error: std::io::Error| {
        let known = place.io(&doing, &error);
        known.unwrap_or_else(|| place.other(doing.clone(), error.to_string()))
    };
    parts.map_err(failed).boxed()
}

/// The parts, with an error where there are more or fewer bytes than were told: the file was
/// written to while it was read.
fn exactly(
    length: u64,
    parts: BoxStream<'static, Result<Bytes, StoreError>>,
    place: Place,
    doing: Doing,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let wrong = move || {
        let reason = format!("it was changed meanwhile: it no longer has {length} bytes");
        place.other(doing.clone(), reason)
    };
    let counted = stream::try_unfold((parts, length), move |(mut parts, left)| {
        let wrong = wrong.clone();
        async move {
            match parts.try_next().await? {
                Some(part) => match left.checked_sub(part.len() as u64) {
                    Some(left) => Ok(Some((part, (parts, left)))),
                    None => Err(wrong()),
                },
                None if left == 0 => Ok(None),
                None => Err(wrong()),
            }
        }
    });
    counted.boxed()
}
