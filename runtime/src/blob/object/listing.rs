//! One page of a listing, from the XML of S3, Google or Azure.
//!
//! Only what a flat set of blobs needs is read: names, lengths, times, and how the listing goes on.
//! A page that does not end is an error, so that a broken answer never looks like a short listing.
//! Memory: the names of one page.

use super::moment;
use crate::clock::Timestamp;

/// Metadata of a blob in Azure that `kopia repository sync-to --times` writes: the time of the blob
/// that it is a copy of. Kopia believes it, so all ages of the repository follow it.
pub(super) const KEPT_TIME: &str = "kopiamtime";

/// One object of a page, under its full key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its key, the location's prefix included.
    pub(super) key: String,
    /// Its length in bytes.
    pub(super) length: u64,
    /// When it was written, in whole seconds, as other answers tell it.
    pub(super) timestamp: Timestamp,
}

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Its objects, as the store ordered them.
    pub(super) objects: Vec<Listed>,
    /// Where the next one goes on; `None` on the last.
    pub(super) next: Option<String>,
}

/// What is known so far of the object that is being read.
#[derive(Default)]
struct Unfinished {
    key: Option<String>,
    length: Option<u64>,
    timestamp: Option<Timestamp>,
    /// The time that Kopia's `sync-to` kept, in Azure.
    kept: Option<Timestamp>,
}

/// Reads a page; says what is wrong with it otherwise.
pub(super) fn parse_page(xml: &str) -> Result<Page, &'static str> {
    let mut page = Page::default();
    let mut object: Option<Unfinished> = None;
    let mut rest = xml;
    let (mut is_whole, mut in_metadata) = (false, false);
    while let Some(start) = rest.find('<') {
        let after = &rest[start + 1..];
        let end = after.find('>').ok_or("it ends in the middle of a tag")?;
        let tag = &after[..end];
        rest = &after[end + 1..];
        let text = &rest[..rest.find('<').unwrap_or(rest.len())];
        let name = tag.split([' ', '\n', '\t', '/']).next().unwrap_or("");
        match (name, &mut object) {
            ("Metadata", _) => in_metadata = !tag.ends_with('/'),
            ("", _) if tag == "/Metadata" => in_metadata = false,
            (name, Some(object)) if in_metadata && name.eq_ignore_ascii_case(KEPT_TIME) => {
                object.kept = kept_time(text);
            }
            // Whatever else somebody has called so.
            (_, Some(_)) if in_metadata => {}
            ("ListBucketResult" | "EnumerationResults", _) if tag.ends_with('/') => is_whole = true,
            ("Contents" | "Blob", _) => object = Some(Unfinished::default()),
            ("Key" | "Name", Some(object)) => object.key = Some(unescape(text)?),
            ("Size" | "Content-Length", Some(object)) => {
                object.length = Some(text.trim().parse().map_err(|_| "a length is no number")?);
            }
            ("LastModified" | "Last-Modified", Some(object)) => {
                object.timestamp = Some(moment(text.trim()).ok_or("a time is no time")?);
            }
            ("NextContinuationToken" | "NextMarker", None) if !text.trim().is_empty() => {
                page.next = Some(unescape(text)?);
            }
            ("", _) => match tag {
                "/Contents" | "/Blob" => page.objects.push(finish(object.take())?),
                "/ListBucketResult" | "/EnumerationResults" => is_whole = true,
                _ => {}
            },
            _ => {}
        }
    }
    if is_whole {
        Ok(page)
    } else {
        Err("it is no whole listing")
    }
}

/// Tells whether an answer is for people, not for programs.
pub(super) fn is_web_page(text: &str) -> bool {
    let text = text.trim_start();
    let begins = |with: &str| {
        let head = text.get(..with.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(with))
    };
    begins("<!doctype html") || begins("<html")
}

fn finish(object: Option<Unfinished>) -> Result<Listed, &'static str> {
    let object = object.ok_or("an object ends that did not begin")?;
    Ok(Listed {
        key: object.key.ok_or("an object has no name")?,
        length: object.length.ok_or("an object has no length")?,
        timestamp: object
            .kept
            .or(object.timestamp)
            .ok_or("an object has no time")?,
    })
}

/// Parses the time that Kopia kept: nanoseconds. To whole seconds, as all times of stores.
pub(super) fn kept_time(text: &str) -> Option<Timestamp> {
    let nanos: i64 = text.trim().parse().ok()?;
    Some(Timestamp::from_seconds(nanos.div_euclid(1_000_000_000)))
}

/// Returns the text of the first element with this name, for answers of one value; without spaces
/// around it.
pub(super) fn text_of(xml: &str, name: &str) -> Option<String> {
    let start = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let rest = xml.get(start..)?;
    unescape(rest.get(..rest.find('<')?)?.trim()).ok()
}

/// Returns the text that an XML text stands for.
fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let end = after.find(';').ok_or("an entity does not end")?;
        plain.push(character(&after[..end]).ok_or("an entity is unknown")?);
        rest = &after[end + 1..];
    }
    plain.push_str(rest);
    Ok(plain)
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, length: u64, seconds: i64) -> Listed {
        Listed {
            key: key.to_owned(),
            length,
            timestamp: Timestamp::from_seconds(seconds),
        }
    }

    #[test]
    fn a_page_of_s3_is_read() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>
<Prefix>a&amp;b/</Prefix><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>
<Contents><Key>a&amp;b/p&#x31;</Key><LastModified>2023-11-14T22:13:20.987Z</LastModified>
<ETag>&quot;x&quot;</ETag><Size>12</Size><Owner><ID>o</ID></Owner></Contents>
<Contents><Key>a&amp;b/p2</Key>
<LastModified>2023-11-14T22:13:21Z</LastModified><Size>0</Size></Contents>
<CommonPrefixes><Prefix>a&amp;b/c/</Prefix></CommonPrefixes>
<NextContinuationToken>t=&lt;1&gt;</NextContinuationToken></ListBucketResult>"#;
        let page = parse_page(xml).unwrap();
        let first = listed("a&b/p1", 12, 1_700_000_000);
        assert_eq!(page.objects, [first, listed("a&b/p2", 0, 1_700_000_001)]);
        assert_eq!(page.next.as_deref(), Some("t=<1>"));
        let nothing = "<ListBucketResult/>";
        assert_eq!(parse_page(nothing).unwrap(), Page::default());
    }

    #[test]
    fn a_page_of_azure_is_read() {
        let xml = r#"<?xml version="1.0"?><EnumerationResults ContainerName="c"><Prefix>p</Prefix>
<Blobs><Blob><Name>p0</Name><Properties><Last-Modified>Tue, 14 Nov 2023 22:13:20 GMT</Last-Modified>
<Content-Length>7</Content-Length><Content-Type /></Properties></Blob>
<BlobPrefix><Name>p/</Name></BlobPrefix></Blobs><NextMarker /></EnumerationResults>"#;
        let page = parse_page(xml).unwrap();
        assert_eq!(page.objects, [listed("p0", 7, 1_700_000_000)]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn a_broken_page_is_never_a_short_one() {
        // Goal: no beginning of a page is read as a page.
        let xml = "<ListBucketResult><Contents><Key>p</Key><Size>1</Size><LastModified>\
                   2023-11-14T22:13:20Z</LastModified></Contents></ListBucketResult>";
        assert_eq!(parse_page(xml).unwrap().objects.len(), 1);
        for length in 0..xml.len() {
            assert!(parse_page(&xml[..length]).is_err(), "{length}");
        }
        for (from, to) in [("<Size>1", "<Size>x"), ("14T", "99T"), ("<Key>p</Key>", "")] {
            assert!(parse_page(&xml.replace(from, to)).is_err(), "{from}");
        }
    }

    #[test]
    fn web_pages_are_told_from_broken_listings() {
        for page in ["<!DOCTYPE html><html>", "\n <HTML lang='en'>", "<html>"] {
            assert!(is_web_page(page), "{page}");
        }
        for other in [
            "",
            "<",
            "<?xml version='1.0'?><ListBucketResult>",
            "é<html>",
        ] {
            assert!(!is_web_page(other), "{other}");
        }
    }

    #[test]
    fn the_time_that_kopia_kept_goes_before_the_stores() {
        let xml = "<EnumerationResults><Blobs><Blob><Name>p1</Name><Properties><Last-Modified>\
                   Thu, 26 Nov 2026 08:00:00 GMT</Last-Modified><Content-Length>3\
                   </Content-Length></Properties><Metadata><Name>x</Name><Kopiamtime>\
                   1700000000123456789</Kopiamtime></Metadata></Blob><Blob><Name>p2</Name>\
                   <Properties><Last-Modified>Thu, 26 Nov 2026 08:00:00 GMT</Last-Modified>\
                   <Content-Length>3</Content-Length></Properties><Metadata /></Blob></Blobs>\
                   </EnumerationResults>";
        let page = parse_page(xml).unwrap();
        let seen = page.objects.iter();
        let seen: Vec<(&str, i64)> = seen
            .map(|object| (object.key.as_str(), object.timestamp.seconds()))
            .collect();
        assert_eq!(seen, [("p1", 1_700_000_000), ("p2", 1_795_680_000)]);
        assert_eq!(kept_time("soon"), None);
    }
}
