//! `[inet_http_server]` and `[unix_http_server]` sections.

use super::{
    Credentials, Listen, ServerConfig,
    evaluation::{Evaluation, Source, Subject},
    ini::Section,
    parse::{expand_user, inet_address, octal, owner},
    python::{abspath, strip},
};

impl<'a> Evaluation<'a> {
    /// All servers: inet first, each kind in the order of the file.
    pub(super) fn servers(&mut self) -> Vec<ServerConfig> {
        let mut servers = Vec::new();
        for section in self.sections_of("inet_http_server") {
            servers.extend(self.inet_server(section));
        }
        for section in self.sections_of("unix_http_server") {
            servers.extend(self.unix_server(section));
        }
        servers
    }

    fn inet_server(&mut self, section: &'a Section) -> Option<ServerConfig> {
        let from = Source { section, is_program: false };
        let credentials = self.credentials(from);
        if section.get("port").is_none() {
            self.error(from, Subject::Key("port"), format!("section [{}] has no port value", section.name));
        }
        let (host, port) = self.read(from, "port", &[], inet_address)?;
        Some(ServerConfig { section: section.name.clone(), listen: Listen::Inet { host, port }, credentials })
    }

    fn unix_server(&mut self, section: &'a Section) -> Option<ServerConfig> {
        let from = Source { section, is_program: false };
        let machine = self.around.machine;
        if section.get("file").is_none() {
            self.error(from, Subject::Key("file"), format!("section [{}] has no file value", section.name));
        }
        let here = self.here.clone();
        let file = self.text(from, "file", &[&here]);
        let credentials = self.credentials(from);
        let owner = self.read(from, "chown", &[], |text| {
            owner(text, machine).map_err(|_| format!("Invalid sockchown value {text}"))
        });
        let mode = self
            .read(from, "chmod", &[], |text| octal(text).map_err(|_| format!("Invalid chmod value {text}")));
        let path = abspath(self.around.cwd, &expand_user(strip(&file?), machine)).into();
        let listen = Listen::Unix { path, mode: mode.unwrap_or(0o700), owner };
        Some(ServerConfig { section: section.name.clone(), listen, credentials })
    }

    /// `username` and `password`: both or none; an empty user name asks for none.
    fn credentials(&mut self, from: Source<'a>) -> Option<Credentials> {
        let username = self.text(from, "username", &[]);
        let password = self.text(from, "password", &[]);
        let is_there = |key| from.section.get(key).is_some();
        if is_there("username") != is_there("password") {
            let missing = if is_there("username") { "password" } else { "username" };
            let problem = format!(
                "Section [{}] contains incomplete authentication: If a username or a password is specified, \
                 both the username and password must be specified",
                from.section.name
            );
            self.error(from, Subject::Key(missing), problem);
        }
        let (username, password) = (username?, password?);
        (!username.is_empty()).then_some(Credentials { username, password })
    }
}
