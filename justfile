# One recipe a job, the same as in `.ci/run`. `just` alone lists them.

_default:
    @just --list --unsorted

# Everything a change has to pass.
ci:
    .ci/run

# A fleet in a temporary home that does real work and shows it.
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# All tests. `just test -p deia-worker tree::` runs some.
test *ARGS='--workspace':
    cargo test {{ ARGS }}

# The fault tests at full size (docs/PERFORMANCE.md names them), half an hour of chaos and an hour of fuzzing last: about two hours.
soak:
    DEIA_SOAK=1 cargo test --release --workspace --no-fail-fast \
        --test crash --test power --test adoption --test ends --test upgrade --test pid_reuse --test starved \
        --test limits --test sandbox --test systemd --test slow_clients --test disk_full --test failing_calls --test clock \
        -- --nocapture
    DEIA_SOAK=1 cargo test --release -p deia-supervisor --lib -- flips sim fuzz --nocapture
    DEIA_SOAK=1 cargo test --no-fail-fast --test failpoints --test restore --test rollback --test external -- --nocapture # a release has no failpoints
    DEIA_SOAK=1 cargo test -p deia-supervisor --lib -- backup audit --nocapture
    DEIA_SOAK=1 cargo test --release --test chaos -- --nocapture
    fuzz/run 600

# Debian's package, in `target/debian/`. Needs `cargo install cargo-deb`. A release is known by the time of its files: the commit's.
deb:
    SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" cargo deb --package deia-supervisor

# Looks for inputs that break a reader of foreign bytes, guided by coverage; so many seconds for each. See fuzz/README.md.
fuzz SECONDS='600':
    fuzz/run {{ SECONDS }}

# Formatting, lints and shell scripts.
lint:
    .ci/run fmt clippy shellcheck

# The pages of the code.
docs:
    .ci/run doc

# Licenses, sources and bans of what comes from outside.
deny:
    .ci/run deny

# Writes anew what is generated: guide, completions, man pages, docs/openapi.json.
bless:
    UPDATE_EXPECT=1 cargo test -p deia --lib config::tests::guide
    UPDATE_EXPECT=1 cargo test -p deia --bin deiactl generated
    UPDATE_EXPECT=1 cargo test -p deia-supervisor --test program openapi
