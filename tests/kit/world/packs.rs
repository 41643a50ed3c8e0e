//! Contents in packs, as a client's session leaves them: packs with a local index, session markers,
//! the index blob of a flush.
//!
//! And a reader of them by other code than Careen's: the whole pack at once, then the place that an
//! entry names. Memory: a pack.

use careen::clock::Timestamp;
use careen::kopia::blob_id::{BlobId, pack_name};
use careen::kopia::content_id::ContentId;
use careen::kopia::pack::{PackLayout, PackPieces, Postamble, assemble};
use careen::repository::sessions::SessionInfo;

use super::model;
use super::{Entry, OVERHEAD, World};

/// A content before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Its ID.
    pub id: ContentId,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl World {
    /// Makes a content; `prefix` is `g` to `z` for metadata.
    pub fn content(&self, prefix: Option<u8>, bytes: Vec<u8>) -> Content {
        let id = ContentId::from_hash(prefix, &self.crypto.hash.hash(&bytes));
        let id = id.expect("a hash is a content ID");
        Content { id, bytes }
    }

    /// Puts a pack of contents of one kind at `time`; returns their entries, of the same time.
    pub fn put_pack(&self, contents: &[Content], session: &str, time: Timestamp) -> Vec<Entry> {
        let kind = contents.first().map_or("p", |first| first.id.pack_prefix());
        let pack = pack_name(kind, self.random(), session);
        let (mut layout, mut sealed, mut entries) = (PackLayout::new(0), Vec::new(), Vec::new());
        for content in contents {
            let stored = self.seal(content.id.iv(), &content.bytes);
            let offset = layout.append(stored.len() as u32);
            entries.push(Entry {
                key: content.id.key().to_vec(),
                timestamp_seconds: time.seconds(),
                deleted: false,
                pack: pack.to_string(),
                offset: offset.expect("a suite's packs are small"),
                packed_length: stored.len() as u32,
                original_length: match self.options.index_version {
                    1 => stored.len() as u32 - OVERHEAD,
                    _ => content.bytes.len() as u32,
                },
                compression: 0,
                format_version: 3,
            });
            sealed.push(stored);
        }
        let local_index = self.index_bytes(&entries);
        let iv = self.crypto.hash.hash(&local_index);
        let sealed: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
        let padding: [u8; 4096] = self.random();
        let pieces = PackPieces {
            replica: &[],
            preamble: &self.random(),
            contents: &sealed,
            padding: &padding,
            local_index: &self.seal(&iv, &local_index),
            local_index_iv: &iv,
        };
        let bytes = assemble(&pieces).expect("a suite's packs are small");
        self.store.insert(pack, bytes, time);
        entries
    }

    /// Puts the index blob of a flush: into `epoch` where there are epochs. Returns its name.
    pub fn put_flush(
        &self,
        epoch: u64,
        session: &str,
        entries: &[Entry],
        time: Timestamp,
    ) -> String {
        let (prefix, suffix) = match self.options.epochs.enabled {
            true => (format!("xn{epoch}_"), format!("{session}-c1")),
            false => ("n".to_owned(), session.to_owned()),
        };
        self.put_sealed(&prefix, &suffix, &self.index_bytes(entries), time)
    }

    /// Puts the marker of a session that was last alive at `checkpoint`; returns its name.
    pub fn put_session_marker(
        &self,
        session: &str,
        checkpoint: Timestamp,
        time: Timestamp,
    ) -> String {
        let info = SessionInfo {
            id: session.to_owned(),
            start_time: checkpoint,
            checkpoint_time: checkpoint,
            username: "somebody".to_owned(),
            hostname: "else".to_owned(),
        };
        let json = serde_json::to_vec(&info).expect("text and times are JSON");
        self.put_sealed("s", session, &json, time)
    }

    /// Reads what an entry names: its bytes are authentic, and have the hash of its ID.
    pub fn read(&self, entry: &Entry) -> Result<Vec<u8>, String> {
        let id = ContentId::from_key(&entry.key).map_err(|error| error.to_string())?;
        let told = |error: String| format!("{id} in {}: {error}", entry.pack);
        let pack = self.store.bytes(&BlobId::new(entry.pack.as_str()));
        let pack = pack.ok_or_else(|| told("there is no such pack".to_owned()))?;
        let start = entry.offset as usize;
        let stored = pack.get(start..start + entry.packed_length as usize);
        let stored = stored.ok_or_else(|| told("the pack is too short".to_owned()))?;
        let plain = self.open(id.iv(), stored).map_err(told)?;
        match *self.crypto.hash.hash(&plain) == *id.hash() {
            true => Ok(plain),
            false => Err(told("the bytes are those of another content".to_owned())),
        }
    }

    /// Returns the entries of the local index of a pack.
    pub fn local_index(&self, pack: &str) -> Result<Vec<Entry>, String> {
        let bytes = self.store.bytes(&BlobId::new(pack));
        let bytes = bytes.ok_or_else(|| format!("{pack}: there is no such pack"))?;
        let postamble = Postamble::find(&bytes).ok_or_else(|| format!("{pack}: no postamble"))?;
        let place = postamble.local_index(bytes.len() as u64);
        let place = place.ok_or_else(|| format!("{pack}: the local index is outside"))?;
        let sealed = &bytes[place.start as usize..place.end as usize];
        let plain = self.open(&postamble.local_index_iv, sealed)?;
        model::entries_of_plain(&plain, pack)
    }

    /// Seals bytes that lie in a pack.
    fn seal(&self, iv: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        let encryption = &self.crypto.encryption;
        encryption.seal(iv, self.random(), plain, &mut sealed);
        match &self.crypto.ecc {
            None => sealed,
            Some(ecc) => {
                let mut encoded = Vec::new();
                ecc.encode(&sealed, &mut encoded);
                encoded
            }
        }
    }

    /// Opens bytes that lie in a pack.
    fn open(&self, iv: &[u8], stored: &[u8]) -> Result<Vec<u8>, String> {
        let mut sealed = stored.to_vec();
        if let Some(ecc) = &self.crypto.ecc {
            let mut decoded = Vec::new();
            let repaired = ecc.decode(stored, &mut decoded);
            repaired.map_err(|error| error.to_string())?;
            sealed = decoded;
        }
        let plain = self.crypto.encryption.open(iv, &mut sealed);
        Ok(plain.map_err(|error| error.to_string())?.to_vec())
    }
}
