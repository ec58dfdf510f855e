# Recipes for people and for CI (.ci/run calls these and adds nothing). `just --list` names them.
# CONTRIBUTING.md says what each needs.

# Python with Supervisor 4.3 installed; only `examples`, `differential`, `takeover`, `ansible` and `corpus` need it.
export SUPERVISOR_PYTHON := env("SUPERVISOR_PYTHON", "python3")

# Where `just install` puts things; DESTDIR is put in front, for packages.
prefix := env("PREFIX", "/usr/local")
destdir := env("DESTDIR", "")

bin := justfile_directory() / "target/release"

# What a change must pass: formatting, lints, documentation, dependency policy, tests
check: fmt lint doc audit test

# Formatting is rustfmt's
fmt:
    cargo fmt --all --check

# Lints, warnings are errors
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Documentation builds without warnings
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

# Licences, duplicate versions, banned crates, sources: deny.toml
audit:
    tests/audit.py

# All tests that need nothing but Rust
test:
    cargo test --workspace --locked

# The two binaries, optimised
release:
    cargo build --release --locked --bin supervisord --bin supervisorctl

# The files in etc/ mean the same to Supervisor and to us
examples: release
    tests/examples.py --python "$SUPERVISOR_PYTHON" --supervisord {{bin}}/supervisord

# The same command lines, XML-RPC requests, events and longer scenarios, with Supervisor and with us
differential: release
    "$SUPERVISOR_PYTHON" tests/differential/run.py --bin-dir {{bin}}
    "$SUPERVISOR_PYTHON" tests/differential/run.py --client unix --bin-dir {{bin}}
    "$SUPERVISOR_PYTHON" tests/differential/run.py --client inet --bin-dir {{bin}}
    "$SUPERVISOR_PYTHON" tests/differential/events.py --bin-dir {{bin}}
    "$SUPERVISOR_PYTHON" tests/differential/methods.py --bin-dir {{bin}}
    "$SUPERVISOR_PYTHON" tests/differential/clients.py --bin-dir {{bin}}
    "$SUPERVISOR_PYTHON" tests/differential/scenarios.py --bin-dir {{bin}}

# Supervisor's own end-to-end tests, unmodified, against our binaries (fetched into target/ with pip)
supervisor-e2e: release
    tests/supervisor_e2e.py --bin-dir {{bin}}

# superlance's crashmail, fatalmailbatch, memmon and httpok, and a listener with Supervisor's childutils, run unchanged (fetches superlance from PyPI)
listeners: release
    test -x target/superlance/bin/memmon || { python3 -m venv target/superlance && target/superlance/bin/pip install -q superlance==2.0.0 supervisor==4.3.0; }
    tests/listeners.py --bin-dir {{bin}} --superlance target/superlance/bin

# Ansible's module `supervisorctl` drives Supervisor and us, with the same results (fetched into target/ with pip)
ansible: release
    tests/ansible.py --bin-dir {{bin}} --python "$SUPERVISOR_PYTHON"

# Real Celery workers under supervisord: warm stop, killed leader, reload (fetched into target/ with pip)
celery: release
    tests/celery.py --bin-dir {{bin}}

# Debian's nginx, apache2, redis, PostgreSQL and php-fpm under supervisord (needs root and the packages)
services: release
    SUPERVISOR_TEST_BIN_DIR={{bin}} SUPERVISOR_TEST_SERVICES=1 cargo test --locked -p supervisor-tests --test services -- --nocapture

# etc/ as it is installed, on its usual paths and ports, in namespaces of its own (needs root and the packages)
installed: release
    tests/installed.py --bin-dir {{bin}}

# The web page in Chromium (needs chromium and chromium-driver); screenshots go to target/web-screenshots
web: release
    tests/web.py --supervisord {{bin}}/supervisord

# A real php-cgi behind [fcgi-program:x], whose workers are killed (needs Debian's php-cgi)
fastcgi: release
    tests/fastcgi.py --bin-dir {{bin}}

# Supervisor with 50 programs is taken over 20 times, refused take-overs leave it working
takeover: release
    "$SUPERVISOR_PYTHON" tests/takeover.py --bin-dir {{bin}}

# 100 programs write as fast as they are read while the daemon is killed, upgraded, updated 200 times: no pid changes, no line is lost
torture: release
    SUPERVISOR_TEST_BIN_DIR={{bin}} SUPERVISOR_TORTURE=100:200 cargo test --profile release-dev --locked -p supervisor-tests --test torture -- --nocapture

# Daemons that are killed between any two things they do, on a simulated machine; SIMULATION_SEED runs one seed
simulate SEEDS="100000":
    SIMULATION_SEEDS={{SEEDS}} cargo test --profile release-dev --locked -p supervisord --lib -- continuity::simulation --nocapture

# Each fuzz target for SECONDS (needs `cargo install cargo-fuzz --locked` and a C++ compiler; the toolchain may be stable)
fuzz SECONDS="60":
    cd fuzz && for target in xmlrpc_request grpc_request config_text journal; do \
        RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" -- -max_total_time={{SECONDS}} || exit 1; done

# Real configuration files in DIR mean the same to Supervisor and to us
corpus DIR:
    SUPERVISOR_CORPUS="$(realpath "{{DIR}}")" cargo test --locked -p supervisord --test config -- --nocapture

# How long one XML-RPC client waits while 200 slow ones and a crowd of 50 are there, beside Supervisor
latency: release
    tests/latency.py --bin-dir {{bin}} --python-bin "$(dirname "$(command -v "$SUPERVISOR_PYTHON")")"

# Measures the binaries with the benchmark in DIR (a folder with bench.py)
bench DIR *ARGS: release
    python3 "{{DIR}}/bench.py" --peer ours --peer supervisor --peer bare --bin-dir {{bin}} {{ARGS}}

# Shell completions, written into etc/completions (committed)
completions: release
    mkdir -p etc/completions
    set -e; for program in supervisord supervisorctl; do \
        {{bin}}/$program --completions bash > etc/completions/$program.bash; \
        {{bin}}/$program --completions zsh > etc/completions/_$program; \
        {{bin}}/$program --completions fish > etc/completions/$program.fish; \
    done

# Man pages, written into target/man
man: release
    mkdir -p target/man
    {{bin}}/supervisord --man > target/man/supervisord.1
    {{bin}}/supervisorctl --man > target/man/supervisorctl.1

# Installs binaries, man pages, completions, unit and (where none is) the configuration; PREFIX and DESTDIR are honoured
install: release man
    install -D -m 755 -t "{{destdir}}{{prefix}}/bin" {{bin}}/supervisord {{bin}}/supervisorctl
    install -D -m 644 -t "{{destdir}}{{prefix}}/share/man/man1" target/man/supervisord.1 target/man/supervisorctl.1
    set -e; for program in supervisord supervisorctl; do \
        install -D -m 644 etc/completions/$program.bash "{{destdir}}{{prefix}}/share/bash-completion/completions/$program"; \
        install -D -m 644 -t "{{destdir}}{{prefix}}/share/zsh/site-functions" etc/completions/_$program; \
        install -D -m 644 -t "{{destdir}}{{prefix}}/share/fish/vendor_completions.d" etc/completions/$program.fish; \
    done
    mkdir -p "{{destdir}}/etc/systemd/system" "{{destdir}}/etc/supervisor/conf.d" "{{destdir}}/var/log/supervisor"
    sed 's#/usr/bin/#{{prefix}}/bin/#' etc/systemd/supervisord.service > "{{destdir}}/etc/systemd/system/supervisord.service"
    test -e "{{destdir}}/etc/supervisor/supervisord.conf" || install -m 644 etc/supervisor/supervisord.conf "{{destdir}}/etc/supervisor/"
    @echo "Next: systemctl daemon-reload && systemctl enable --now supervisord"
