//! The folders below a prefix: for a person who gave the wrong one.
//!
//! A repository has no folders; Velero has one for each namespace. Memory: a page of a listing.

use super::answer::Call;
use super::wire::Kind;
use super::{ObjectStore, PAGE_BYTES};
use crate::blob::BlobError;

impl ObjectStore {
    /// Returns the names of the first folders below the prefix, at most `count_max`. Blocks.
    pub fn folders_now(&self, count_max: usize) -> Result<Vec<String>, BlobError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| BlobError::io("open", "folders", error))?;
        runtime.block_on(self.folders(count_max))
    }

    async fn folders(&self, count_max: usize) -> Result<Vec<String>, BlobError> {
        let call = Call {
            operation: "list",
            id: "folders",
            is_blob: false,
        };
        let ask = self.asker.bucket.ask_list("", None, None, count_max);
        let answer = match self.asker.ask(Kind::List, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        let text = answer.text(PAGE_BYTES).await?;
        Ok(names(&text, &self.asker.bucket.prefix, count_max))
    }
}

/// Finds the folders in an answer; names with characters that XML escapes are left out.
fn names(xml: &str, prefix: &str, count_max: usize) -> Vec<String> {
    let parts = xml
        .split("<CommonPrefixes>")
        .flat_map(|part| part.split("<BlobPrefix>"))
        .skip(1);
    let name = |part: &str| {
        let start = part.find("<Prefix>").or_else(|| part.find("<Name>"))?;
        let text = part.get(start..)?.split_once('>')?.1.split('<').next()?;
        let name = text.strip_prefix(prefix)?.strip_suffix('/')?;
        (!name.is_empty() && !name.contains(['/', '&'])).then(|| name.to_owned())
    };
    parts.filter_map(name).take(count_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_in_the_answers_of_all_stores() {
        let s3 = "<ListBucketResult><Prefix>x/</Prefix><Contents><Key>x/a</Key></Contents>\
                  <CommonPrefixes><Prefix>x/ns1/</Prefix></CommonPrefixes>\
                  <CommonPrefixes><Prefix>x/n&amp;2/</Prefix></CommonPrefixes>\
                  <CommonPrefixes><Prefix>x/ns3/</Prefix></CommonPrefixes></ListBucketResult>";
        assert_eq!(names(s3, "x/", 9), ["ns1", "ns3"]);
        assert_eq!(names(s3, "x/", 1), ["ns1"]);
        let azure = "<EnumerationResults><Blobs><BlobPrefix><Name>x/ns1/</Name></BlobPrefix>\
                     </Blobs></EnumerationResults>";
        assert_eq!(names(azure, "x/", 9), ["ns1"]);
    }
}
