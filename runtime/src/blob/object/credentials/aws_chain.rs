//! The order in which Amazon's keys are looked for.
//!
//! Given keys (Kopia's config file); a given profile or file; the environment; a web identity
//! (IRSA); the default profile of the shared files; the container's service; the machine's. As in
//! Amazon's programs, the first that is set up is taken, and its failure is not covered up by the
//! next. Memory: the files, for a moment.

use std::sync::Arc;

use super::super::location::S3Location;
use super::aws::{AnyIssuer, Container, ForClient, Keys, Machine, Program};
use super::aws_files::{Files, Profiles, Way, way};
use super::aws_roles::{Assumed, Service, WebIdentity};
use super::exchange::{Exchange, Kind};
use super::ini::value;
use super::refreshing::{Asked, Fixed, Issued, Refreshing};
use super::{Found, Given, Role, Sources};
use crate::blob::object::connect::Credentials;

/// Profiles that may assume roles of each other, one behind the other.
const CHAIN_MAX: u32 = 5;

/// Amazon's address of a machine's metadata.
const MACHINE: &str = "http://169.254.169.254";

/// Amazon's address of a container's metadata.
const CONTAINER: &str = "http://169.254.170.2";

/// Finds the keys of an S3 place.
pub(super) fn find(place: &S3Location, sources: &Sources) -> Result<Found, String> {
    let (issuer, origin) = Search { place, sources }.first()?;
    let keys = Refreshing::new(ForClient(issuer), origin.clone(), sources.clock.clone());
    Ok(Found {
        credentials: Credentials::Aws(Arc::new(keys)),
        origin,
    })
}

/// Returns the region that the profile names, where one is used.
pub fn profile_region(sources: &Sources) -> Option<String> {
    let profiles = Files::of(sources).read().ok()?;
    let profile = profiles.get(profile_name(sources))?;
    value(profile, "region").map(str::to_owned)
}

fn profile_name(sources: &Sources) -> &str {
    let given = sources.profile.as_deref();
    given
        .or_else(|| sources.variables.get("AWS_PROFILE"))
        .unwrap_or("default")
}

type Named = (AnyIssuer, String);

struct Search<'a> {
    place: &'a S3Location,
    sources: &'a Sources,
}

impl Search<'_> {
    fn first(&self) -> Result<Named, String> {
        if let Given::S3(keys) = &self.sources.given {
            let with: Option<Named> = (!keys.access_key_id.is_empty()).then(|| {
                let keys = Keys {
                    id: keys.access_key_id.clone(),
                    secret: keys.secret_access_key.clone(),
                    token: keys.session_token.clone(),
                };
                (
                    Box::new(Fixed(keys)) as AnyIssuer,
                    "the config file's keys".into(),
                )
            });
            return match (&keys.role, with) {
                (Some(role), Some(with)) => self.assume(role.clone(), with),
                (Some(role), None) => self.assume(role.clone(), self.looked_for()?),
                (None, Some(with)) => Ok(with),
                (None, None) => self.looked_for(),
            };
        }
        self.looked_for()
    }

    fn looked_for(&self) -> Result<Named, String> {
        let sources = self.sources;
        if sources.file.is_some() || sources.profile.is_some() {
            return self.profile(profile_name(sources), true)?.ok_or_else(|| {
                let name = profile_name(sources);
                format!(
                    "profile {name} of {} has no keys",
                    Files::of(sources).shown()
                )
            });
        }
        if let Some(found) = self.environment()? {
            return Ok(found);
        }
        if let Some(found) = self.web_identity()? {
            return Ok(found);
        }
        let named = sources.variables.get("AWS_PROFILE").is_some();
        if let Some(found) = self.profile(profile_name(sources), named)? {
            return Ok(found);
        }
        match self.container()? {
            Some(found) => Ok(found),
            None => self.machine(),
        }
    }

    fn environment(&self) -> Result<Option<Named>, String> {
        let get = |name| self.sources.variables.get(name);
        match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                let keys = Keys {
                    id: id.to_owned(),
                    secret: secret.into(),
                    token: get("AWS_SESSION_TOKEN").unwrap_or_default().into(),
                };
                let origin = "AWS_ACCESS_KEY_ID of the environment";
                Ok(Some((Box::new(Fixed(keys)), origin.into())))
            }
            (Some(_), None) => Err("AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not".into()),
            (None, Some(_)) => Err("AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not".into()),
            (None, None) => Ok(None),
        }
    }

    fn web_identity(&self) -> Result<Option<Named>, String> {
        let variables = &self.sources.variables;
        let Some(token_file) = variables.path("AWS_WEB_IDENTITY_TOKEN_FILE") else {
            return Ok(None);
        };
        let arn = variables.get("AWS_ROLE_ARN");
        let role = Role {
            arn: arn
                .ok_or("AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not")?
                .to_owned(),
            session_name: variables
                .get("AWS_ROLE_SESSION_NAME")
                .unwrap_or_default()
                .to_owned(),
            ..Role::default()
        };
        self.token_role(role, token_file).map(Some)
    }

    fn token_role(&self, role: Role, token_file: std::path::PathBuf) -> Result<Named, String> {
        let origin = format!("role {} by the token of {}", role.arn, token_file.display());
        let service = self.token_service(&role)?;
        let issuer = WebIdentity {
            service,
            role,
            token_file,
        };
        Ok((Box::new(issuer), origin))
    }

    fn assume(&self, role: Role, (with, origin): Named) -> Result<Named, String> {
        let origin = format!("role {}, assumed with {origin}", role.arn);
        let service = self.token_service(&role)?;
        Ok((
            Box::new(Assumed {
                service,
                role,
                with,
            }),
            origin,
        ))
    }

    fn token_service(&self, role: &Role) -> Result<Service, String> {
        let region = role.region.clone();
        let region = region.unwrap_or_else(|| self.place.signing_region().to_owned());
        let endpoint = role.endpoint.clone();
        let named = self
            .sources
            .variables
            .get("AWS_ENDPOINT_URL_STS")
            .map(str::to_owned);
        let url = endpoint.filter(|url| !url.is_empty()).or(named);
        let domain = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        Ok(Service {
            exchange: Exchange::new(&self.place.transport, Kind::Token)?,
            url: url.unwrap_or_else(|| format!("https://sts.{region}.{domain}/")),
            region,
            clock: self.sources.clock.clone(),
        })
    }

    /// Keys of a profile; `None` where there is none of that name and none is `needed`.
    fn profile(&self, name: &str, needed: bool) -> Result<Option<Named>, String> {
        let files = Files::of(self.sources);
        let profiles = files.read()?;
        if profiles.get(name).is_none() && needed {
            let names = profiles.names();
            let names = if names.is_empty() {
                "none".into()
            } else {
                names
            };
            return Err(format!(
                "there is no profile {name} in {}; there are: {names}",
                files.shown()
            ));
        }
        self.profile_of(&profiles, &files, name, CHAIN_MAX)
    }

    fn profile_of(
        &self,
        profiles: &Profiles,
        files: &Files,
        name: &str,
        left: u32,
    ) -> Result<Option<Named>, String> {
        let Some(profile) = profiles.get(name) else {
            return Ok(None);
        };
        let named = |reason: String| format!("profile {name}: {reason}");
        let origin = format!("profile {name} of {}", files.shown());
        let role = |profile| Role {
            arn: value(profile, "role_arn").unwrap_or_default().to_owned(),
            session_name: value(profile, "role_session_name")
                .unwrap_or_default()
                .to_owned(),
            seconds: value(profile, "duration_seconds").and_then(|text| text.parse().ok()),
            external_id: value(profile, "external_id").map(str::to_owned),
            ..Role::default()
        };
        match way(profile).map_err(named)? {
            Way::None => Ok(None),
            Way::Keys => Ok(Some((self.file_keys(files, name), origin))),
            Way::Token(file) => self.token_role(role(profile), file).map(Some),
            Way::Program(command) => {
                let clock = self.sources.clock.clone();
                let origin = format!("credential_process of {origin}");
                Ok(Some((Box::new(Program { command, clock }), origin)))
            }
            Way::RoleOf(source) => {
                let with = if source == name && value(profile, "aws_access_key_id").is_some() {
                    Some((self.file_keys(files, name), origin))
                } else {
                    let left = left.checked_sub(1).ok_or("roles of roles go in a circle")?;
                    self.profile_of(profiles, files, &source, left)?
                };
                let missing = || named(format!("source_profile {source} has no keys"));
                self.assume(role(profile), with.ok_or_else(missing)?)
                    .map(Some)
            }
            Way::RoleFrom(source) => {
                let with = match source.as_str() {
                    "Environment" => self.environment()?,
                    "EcsContainer" => self.container()?,
                    "Ec2InstanceMetadata" => Some(self.machine()?),
                    other => return Err(named(format!("credential_source {other} is not known"))),
                };
                let missing = || named(format!("credential_source {source} has no keys"));
                self.assume(role(profile), with.ok_or_else(missing)?)
                    .map(Some)
            }
        }
    }

    /// Keys that are in a file, which is read again now and then.
    fn file_keys(&self, files: &Files, name: &str) -> AnyIssuer {
        let (files, name, clock) = (files.clone(), name.to_owned(), self.sources.clock.clone());
        Box::new(Asked(move || {
            let profiles = files.read()?;
            let section = profiles.get(&name);
            let section = section.ok_or_else(|| format!("profile {name} is gone"))?;
            let part = |key| value(section, key).unwrap_or_default();
            let keys = Keys {
                id: part("aws_access_key_id").to_owned(),
                secret: part("aws_secret_access_key").into(),
                token: part("aws_session_token").into(),
            };
            if keys.id.is_empty() || keys.secret.is_empty() {
                return Err(format!("profile {name} has no keys any more"));
            }
            Ok(Issued::of_file(keys, clock.now()))
        }))
    }

    fn container(&self) -> Result<Option<Named>, String> {
        let variables = &self.sources.variables;
        let relative = variables.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let full = variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        let url = match (relative, full) {
            (Some(path), _) => format!("{CONTAINER}{path}"),
            (None, Some(url)) => url.to_owned(),
            (None, None) => return Ok(None),
        };
        let issuer = Container {
            exchange: Exchange::new(&self.place.transport, Kind::Metadata)?,
            token: variables
                .get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
                .unwrap_or_default()
                .into(),
            token_file: variables.path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            clock: self.sources.clock.clone(),
            url: url.clone(),
        };
        Ok(Some((
            Box::new(issuer),
            format!("the container's service {url}"),
        )))
    }

    fn machine(&self) -> Result<Named, String> {
        let variables = &self.sources.variables;
        let nowhere = || {
            format!(
                "none found: not in the environment (AWS_ACCESS_KEY_ID, \
                 AWS_WEB_IDENTITY_TOKEN_FILE), not in profile {} of {}",
                profile_name(self.sources),
                Files::of(self.sources).shown()
            )
        };
        if variables
            .get("AWS_EC2_METADATA_DISABLED")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"))
        {
            return Err(nowhere());
        }
        let endpoint = variables
            .get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
            .unwrap_or(MACHINE);
        let machine = Machine {
            exchange: Exchange::new(&self.place.transport, Kind::Metadata)?,
            endpoint: endpoint.to_owned(),
            clock: self.sources.clock.clone(),
        };
        let issuer = OrNowhere {
            machine,
            nowhere: nowhere(),
        };
        Ok((Box::new(issuer), "the machine's role (EC2 metadata)".into()))
    }
}

/// The machine's service as the last hope: its failure tells where else keys were looked for.
struct OrNowhere {
    machine: Machine,
    nowhere: String,
}

#[async_trait::async_trait]
impl super::Issuer for OrNowhere {
    type Credential = Keys;

    async fn issue(&self) -> Result<Issued<Keys>, String> {
        let issued = self.machine.issue().await;
        issued.map_err(|reason| format!("{}, and the machine has none ({reason})", self.nowhere))
    }
}

#[cfg(test)]
mod tests;
