//! One request at a time: TLS, redirects, authentication and trying again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ureq::http::{Method, Request, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

use super::auth::{Authorization, Challenge};
use super::connection::{authorities, system_roots, unreachable};
use super::credentials::{Credentials, Found, Login};
use super::error::{RegistryError, is_passing, plain};
use super::message::{Answer, Ask, Payload, Section, authority, joined, said};
use super::place::{host_of, scheme};
use super::retry::{Cancel, Patience, retry_after};
use crate::settings::Settings;

/// As many times a request may be sent elsewhere.
const REDIRECTS: usize = 10;

/// A mirror isn't waited for as long as the registry itself: there is somebody else to ask.
const MIRROR_TRIES: u32 = 2;

/// How many times longer the end of an upload may take than anything else.
const PUT_PATIENCE: u32 = 10;

/// Hears what happens on the way. Called from several threads.
pub trait Watch: Send + Sync {
    /// Something that a person should know, though it goes on: a mirror that failed, a pause that was asked for.
    fn note(&self, _text: &str) {}

    /// A layer of so many bytes is going to be fetched.
    fn layer(&self, _digest: &str, _bytes: u64) {}

    /// So many of its bytes are here now, those of an earlier try among them.
    fn received(&self, _digest: &str, _bytes: u64) {}
}

/// Hears nothing.
impl Watch for () {}

/// Speaks to registries and web servers, in as many threads as like.
pub struct Client {
    pub(super) settings: Settings,
    credentials: Credentials,
    pub(super) patience: Patience,
    pub(super) cancel: Cancel,
    pub(super) watch: Arc<dyn Watch>,
    agents: Mutex<BTreeMap<String, Agent>>,
    /// By host and scopes.
    authorizations: Mutex<BTreeMap<(String, Vec<String>), Authorization>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client that knows what `wharf.toml` says of registries, and who to be there. Nothing is read or
    /// connected yet.
    pub fn new(settings: Settings, credentials: Credentials, watch: Arc<dyn Watch>) -> Self {
        Self {
            settings,
            credentials,
            patience: Patience::default(),
            cancel: Cancel::default(),
            watch,
            agents: Mutex::default(),
            authorizations: Mutex::default(),
        }
    }

    /// The same, with other limits of time.
    #[must_use]
    pub fn patient(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Ends everything under way, in every thread; nothing new begins.
    pub fn cancel(&self) {
        self.cancel.cancel();
        for agent in lock(&self.agents).values() {
            agent.clone().shutdown();
        }
    }

    pub(super) fn is_insecure(&self, host: &str) -> bool {
        scheme(host, &self.settings) == "http"
    }

    /// Connections to a registry and to where it sends us, with the authorities that may vouch for them.
    fn agent(&self, host: &str) -> Result<Agent, RegistryError> {
        if let Some(agent) = lock(&self.agents).get(host) {
            return Ok(agent.clone());
        }
        let Patience { connect, stalled, .. } = self.patience;
        let mut roots = system_roots();
        for path in
            self.settings.registries.get(host).map(|own| own.authorities.as_slice()).unwrap_or_default()
        {
            roots.extend(authorities(path)?);
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here: credentials stay where they belong.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_per_read(Some(stalled))
            .timeout_per_write(Some(stalled))
            .build();
        let agent = Agent::new_with_config(config);
        self.cancel.check()?;
        lock(&self.agents).insert(host.to_owned(), agent.clone());
        Ok(agent)
    }

    /// Asks one server, as whoever we are there, and again where that may help. `host` is the registry's name,
    /// by which settings and credentials are found. Any status but 401 that isn't the server's own trouble is
    /// an answer.
    pub(super) fn send(
        &self,
        host: &str,
        repository: &str,
        scopes: &[String],
        ask: &Ask<'_>,
        is_mirror: bool,
    ) -> Result<Answer, RegistryError> {
        let own = format!("{}://{}", scheme(host, &self.settings), host_of(host));
        if authority(&ask.url) != authority(&own) {
            // An upload that goes on elsewhere: nothing there needs to know who we are.
            self.may_go(host, ask, &ask.url)?;
            return self.retried(host, ask, None, is_mirror);
        }
        let key = (host.to_owned(), scopes.to_vec());
        let known = lock(&self.authorizations).get(&key).filter(|known| known.is_good()).cloned();
        let value = known.as_ref().map(|known| known.value.as_str());
        let answer = self.retried(host, ask, value, is_mirror)?;
        // A refusal of where a redirect led isn't about what the registry knows.
        if answer.status != 401 || authority(&answer.url) != authority(&ask.url) {
            return Ok(answer);
        }
        lock(&self.authorizations).remove(&key);
        let challenges: Vec<_> = answer
            .headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(Challenge::parse)
            .collect();
        let found = self.credentials.find(host, repository)?;
        match self.authenticate(host, scopes, found.login.as_ref(), &challenges)? {
            None => Ok(answer),
            Some(new) => {
                drop(answer);
                let answer = self.retried(host, ask, Some(&new.value), is_mirror)?;
                if answer.status != 401 {
                    lock(&self.authorizations).insert(key, new);
                }
                Ok(answer)
            }
        }
    }

    /// One request with its redirects, until it is answered or no longer worth trying.
    pub(super) fn retried(
        &self,
        host: &str,
        ask: &Ask<'_>,
        authorization: Option<&str>,
        is_mirror: bool,
    ) -> Result<Answer, RegistryError> {
        let tries = if is_mirror { self.patience.tries.min(MIRROR_TRIES) } else { self.patience.tries };
        let mut failures = 0;
        loop {
            self.cancel.check()?;
            let outcome = self.followed(host, ask, authorization);
            failures += 1;
            let mut pause = self.patience.pause_after(failures);
            match outcome {
                Ok(answer) if is_passing(answer.status) => {
                    let asked = answer.header("retry-after");
                    if let Some(wait) = asked.and_then(|asked| retry_after(asked, Timestamp::now())) {
                        if wait > self.patience.obeyed {
                            return Err(RegistryError::Busy { host: host.to_owned(), wait });
                        }
                        pause = wait.max(pause);
                        if failures < tries {
                            let seconds = pause.as_secs_f64().ceil();
                            self.watch.note(&format!("{host} asks to wait; going on in {seconds} s"));
                        }
                    }
                    if failures >= tries {
                        return Ok(answer);
                    }
                }
                Err(error) if error.may_pass() && failures < tries => {}
                other => return other,
            }
            self.cancel.pause(pause)?;
        }
    }

    /// One request, and where it is sent on to. What proves who we are goes only where it was meant to.
    fn followed(
        &self,
        host: &str,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Answer, RegistryError> {
        let agent = self.agent(host)?;
        let first = authority(&ask.url);
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let here = authority(&url);
            let mut request = Request::builder().method(&ask.method).uri(&url);
            for (name, value) in &ask.headers {
                request = request.header(*name, value);
            }
            if let Some(authorization) = authorization.filter(|_| here == first) {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let response = match &ask.payload {
                Payload::None => self.run(&agent, request, SendBody::none()),
                Payload::Bytes(bytes, media_type) => {
                    let request = request
                        .header(header::CONTENT_TYPE, *media_type)
                        .header(header::CONTENT_LENGTH, bytes.len());
                    self.run(&agent, request, SendBody::from_reader(&mut &**bytes))
                }
                Payload::File(file, from, length) => {
                    let request = request
                        .header(header::CONTENT_TYPE, "application/octet-stream")
                        .header(header::CONTENT_LENGTH, *length);
                    self.run(
                        &agent,
                        request,
                        SendBody::from_reader(&mut Section { file, at: *from, left: *length }),
                    )
                }
            };
            let response = match response {
                Ok(response) => response,
                // What `Client::cancel` does looks like a broken connection.
                Err(_) if self.cancel.is_cancelled() => return Err(RegistryError::Cancelled),
                Err(error) => return Err(unreachable(host, error, self.is_insecure(host))),
            };
            let status = response.status().as_u16();
            let (parts, body) = response.into_parts();
            let answer = Answer::new(status, parts.headers, url, host.to_owned(), body);
            let Some(location) =
                answer.header("location").filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308))
            else {
                return Ok(answer);
            };
            let next = joined(&answer.url, location).ok_or_else(|| RegistryError::Redirect {
                what: ask.what.clone(),
                host: host.to_owned(),
                to: plain(location),
                why: "that is no address",
            })?;
            self.may_go(host, ask, &next)?;
            url = next;
        }
        Err(RegistryError::Redirect {
            what: ask.what.clone(),
            host: host.to_owned(),
            to: plain(&url),
            why: "that was the eleventh time",
        })
    }

    fn run(
        &self,
        agent: &Agent,
        request: ureq::http::request::Builder,
        body: SendBody<'_>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let request = request.body(body)?;
        // Before it says that it has a blob, a registry may read and copy all of it.
        let long = self.patience.stalled * PUT_PATIENCE;
        if request.method() == Method::PUT {
            return agent.run(agent.configure_request(request).timeout_per_read(Some(long)).build());
        }
        agent.run(request)
    }

    /// Whether a server may send us there.
    fn may_go(&self, host: &str, ask: &Ask<'_>, to: &str) -> Result<(), RegistryError> {
        let why = match authority(to) {
            None => "that is neither https nor http",
            Some((scheme, _, _)) if scheme == "http" && !self.is_insecure(host) => {
                "that isn't protected by TLS"
            }
            Some(_) => return Ok(()),
        };
        Err(RegistryError::Redirect { what: ask.what.clone(), host: host.to_owned(), to: plain(to), why })
    }

    /// The answer if it is a success; what was refused, and why, if not.
    pub(super) fn accepted(
        &self,
        answer: Answer,
        what: &str,
        host: &str,
        repository: &str,
    ) -> Result<Answer, RegistryError> {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let said = said(answer);
        let (what, host) = (what.to_owned(), host.to_owned());
        Err(match status {
            404 => RegistryError::NotFound { what, host, said },
            401 | 403 => {
                let hint = self.hint(&host, repository, status);
                RegistryError::Denied { what, host, said, hint }
            }
            _ => RegistryError::Status { what, host, status, said },
        })
    }

    fn hint(&self, host: &str, repository: &str, status: u16) -> String {
        let log_in = format!("`wharf image login {host}`");
        let Ok(Found { login, file, helper }) = self.credentials.find(host, repository) else {
            return format!("log in with {log_in}");
        };
        let from = file.map(|file| format!(" in {}", file.display())).unwrap_or_default();
        match (login, helper) {
            (Some(login), _) => {
                let who = match login {
                    Login::Password { user, .. } => format!("the login of `{user}`{from}"),
                    Login::Identity(_) => format!("the token{from}"),
                };
                if status == 401 {
                    format!("{who} isn't accepted: log in again with {log_in}")
                } else {
                    format!("{who} doesn't allow it, or there is no such repository")
                }
            }
            (None, Some(helper)) => format!(
                "there is a credential helper for it, `{helper}`{from}, and Wharf runs no helpers: log in with {log_in}"
            ),
            (None, None) => format!("if the name is right, log in with {log_in}"),
        }
    }
}
