//! What to tell the administrator of a program that put itself into the background.

use std::path::Path;

/// How well-known programs are kept in the foreground: the name of the program, and what to change.
const FOREGROUND: &[(&str, &str)] = &[
    ("nginx", "add `daemon off;` to its configuration, or run `nginx -g 'daemon off;'`"),
    ("apache2", "run `apache2 -DFOREGROUND`"),
    ("apache2ctl", "run `apache2ctl -DFOREGROUND`"),
    ("apachectl", "run `apachectl -DFOREGROUND`"),
    ("httpd", "run `httpd -DFOREGROUND`"),
    ("redis-server", "set `daemonize no` in its configuration"),
    ("pg_ctl", "run `postgres -D DIRECTORY` instead of `pg_ctl start`"),
    ("pg_ctlcluster", "run `pg_ctlcluster --foreground`, or `postgres -D DIRECTORY`"),
    ("mysqld_safe", "run `mysqld` instead"),
    ("sshd", "run `sshd -D`"),
    ("cron", "run `cron -f`"),
    ("crond", "run `crond -n` (`crond -f` with BusyBox)"),
    ("rsyslogd", "run `rsyslogd -n`"),
    ("memcached", "leave out `-d`"),
    ("haproxy", "run `haproxy -db`"),
    ("dockerd", "run `dockerd` itself, not its init script"),
    ("service", "run the program itself, not its init script"),
    ("systemctl", "run the program itself; systemctl hands it to systemd"),
];

/// What to change so that this program stays in the foreground.
pub fn foreground_hint(executable: &str) -> &'static str {
    let name = Path::new(executable).file_name().and_then(|name| name.to_str()).unwrap_or(executable);
    if name.starts_with("php-fpm") {
        return "run it with `--nodaemonize` (`-F`), or set `daemonize = no` in its configuration";
    }
    if executable.starts_with("/etc/init.d/") {
        return "run the program itself, not its init script";
    }
    let known = FOREGROUND.iter().find(|(known, _)| *known == name);
    known.map_or("start it with the option that keeps it in the foreground", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_programs_get_their_own_hint() {
        assert!(foreground_hint("/usr/sbin/nginx").contains("daemon off;"));
        assert!(foreground_hint("/usr/sbin/php-fpm8.2").contains("--nodaemonize"));
        assert!(foreground_hint("/etc/init.d/postfix").contains("init script"));
        assert!(foreground_hint("in-house").contains("foreground"));
    }
}
