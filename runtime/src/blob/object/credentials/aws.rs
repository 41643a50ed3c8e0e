//! Issuers of Amazon's keys: files, programs, containers, machines.
//!
//! What they answer is JSON of nearly the same form everywhere. Mirrors what Amazon's programs do.
//! Memory: an answer.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};

use async_trait::async_trait;
use object_store::aws::AwsCredential;
use serde::Deserialize;

use super::exchange::Exchange;
use super::refreshing::{Issued, Issuer};
use super::{Secret, read_text};
use crate::clock::{SharedClock, Timestamp};

/// Amazon's keys, which can be copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Secret,
}

impl Keys {
    /// Returns them as the client wants them.
    pub(super) fn credential(&self) -> AwsCredential {
        AwsCredential {
            key_id: self.id.clone(),
            secret_key: self.secret.reveal().to_owned(),
            token: (!self.token.is_empty()).then(|| self.token.reveal().to_owned()),
        }
    }
}

/// Somebody who gives Amazon's keys.
pub(super) type AnyIssuer = Box<dyn Issuer<Credential = Keys>>;

/// Makes the client's credentials of keys.
pub(super) struct ForClient(pub(super) AnyIssuer);

#[async_trait]
impl Issuer for ForClient {
    type Credential = AwsCredential;

    async fn issue(&self) -> Result<Issued<AwsCredential>, String> {
        Ok(self.0.issue().await?.map(|keys| keys.credential()))
    }
}

/// The JSON of metadata services and programs.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: Secret,
    #[serde(default)]
    token: Secret,
    #[serde(default)]
    session_token: Secret,
    #[serde(default)]
    expiration: Option<String>,
}

/// Parses keys in JSON.
pub(super) fn parse_keys(json: &str, now: Timestamp) -> Result<Issued<Keys>, String> {
    let answer: Answer = serde_json::from_str(json).map_err(|_| "its answer has no keys")?;
    let token = if answer.token.is_empty() {
        answer.session_token
    } else {
        answer.token
    };
    let keys = Keys {
        id: answer.access_key_id,
        secret: answer.secret_access_key,
        token,
    };
    match answer.expiration.filter(|text| !text.is_empty()) {
        None => Ok(Issued::of_file(keys, now)),
        Some(text) => {
            let until = Timestamp::parse(&text).ok_or("its answer has no time of expiry")?;
            Ok(Issued::expiring(keys, now, until))
        }
    }
}

/// A container's service (ECS, EKS Pod Identity).
pub(super) struct Container {
    pub(super) exchange: Exchange,
    pub(super) url: String,
    pub(super) token: Secret,
    pub(super) token_file: Option<std::path::PathBuf>,
    pub(super) clock: SharedClock,
}

#[async_trait]
impl Issuer for Container {
    type Credential = Keys;

    async fn issue(&self) -> Result<Issued<Keys>, String> {
        // The file is written anew by Kubernetes: read at each use.
        let token = match &self.token_file {
            Some(file) => Secret::new(read_text(file)?.trim()),
            None => self.token.clone(),
        };
        let mut headers = Vec::new();
        if !token.is_empty() {
            headers.push(("authorization", token.reveal()));
        }
        let answer = self.exchange.get(&self.url, &headers).await?;
        parse_keys(&answer, self.clock.now()).map_err(|reason| format!("{}: {reason}", self.url))
    }
}

/// A machine's service (EC2), version 2 of its protocol.
pub(super) struct Machine {
    pub(super) exchange: Exchange,
    pub(super) endpoint: String,
    pub(super) clock: SharedClock,
}

/// Where a machine's role and keys are.
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";

#[async_trait]
impl Issuer for Machine {
    type Credential = Keys;

    async fn issue(&self) -> Result<Issued<Keys>, String> {
        let base = self.endpoint.trim_end_matches('/');
        let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", "600")];
        let url = format!("{base}/latest/api/token");
        let token = Secret::new(self.exchange.put(&url, &lifetime).await?);
        let headers = [("x-aws-ec2-metadata-token", token.reveal())];
        let roles = self
            .exchange
            .get(&format!("{base}{ROLE_PATH}"), &headers)
            .await?;
        let role = roles.lines().next().unwrap_or_default().trim();
        if role.is_empty() {
            return Err("the machine has no role".into());
        }
        let url = format!("{base}{ROLE_PATH}{role}");
        let answer = self.exchange.get(&url, &headers).await?;
        parse_keys(&answer, self.clock.now()).map_err(|reason| format!("{url}: {reason}"))
    }
}

/// A program that writes keys (`credential_process`); the shell runs it, as in Amazon's programs.
pub(super) struct Program {
    pub(super) command: String,
    pub(super) clock: SharedClock,
}

/// How long a program may take.
const PROGRAM_SECONDS_MAX: u64 = 60;

/// Longest output of a program; keys take 3 KiB.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

#[async_trait]
impl Issuer for Program {
    type Credential = Keys;

    async fn issue(&self) -> Result<Issued<Keys>, String> {
        let (give, given) = tokio::sync::oneshot::channel();
        let command = self.command.clone();
        // A thread of its own, which nobody waits for when the program hangs.
        std::thread::spawn(move || give.send(output_of(&command)));
        let limit = std::time::Duration::from_secs(PROGRAM_SECONDS_MAX);
        let ended = tokio::time::timeout(limit, given).await;
        let ended = ended.map_err(|_| "credential_process: no answer in 60 s")?;
        let ended = ended.map_err(|_| "credential_process: was not run")?;
        let (status, output) = ended.map_err(|error| format!("credential_process: {error}"))?;
        if !status.success() {
            return Err(format!("credential_process: {status}"));
        }
        let json = String::from_utf8(output).map_err(|_| "credential_process: no text")?;
        parse_keys(&json, self.clock.now())
            .map_err(|reason| format!("credential_process: {reason}"))
    }
}

/// Runs a command to its end; of what it says, [`OUTPUT_BYTES_MAX`] are read.
fn output_of(command: &str) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut shell = Command::new("sh");
    let shell = shell.arg("-c").arg(command);
    let shell = shell.stdin(Stdio::null()).stderr(Stdio::null());
    let mut shell = shell.stdout(Stdio::piped()).spawn()?;
    let mut output = Vec::new();
    if let Some(stdout) = shell.stdout.take() {
        stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut output)?;
    }
    Ok((shell.wait()?, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_stop_talking_is_cut() {
        let (_, output) = output_of("head -c 9000000 /dev/zero").unwrap();
        assert_eq!(output.len() as u64, OUTPUT_BYTES_MAX);
        let (status, output) = output_of("echo keys; echo secret >&2; exit 3").unwrap();
        assert_eq!(
            (status.code(), output.as_slice()),
            (Some(3), &b"keys\n"[..])
        );
    }
}
