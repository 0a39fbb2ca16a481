# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_deiactl_global_optspecs
    string join \n home= socket= url= json q/quiet h/help V/version
end

function __fish_deiactl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_deiactl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_deiactl_using_subcommand
    set -l cmd (__fish_deiactl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c deiactl -n "__fish_deiactl_needs_command" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_needs_command" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_needs_command" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_needs_command" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_needs_command" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_needs_command" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_needs_command" -s V -l version -d 'Print version'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "status" -d 'Show the daemon, its configuration, its bots and its queue'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "submit" -d 'Submit a task'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "task" -d 'List, show and steer tasks'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "bots" -d 'List the bots'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "bot" -d 'Show, start, stop, restart or interrupt one bot, show what it printed, or register an external one'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "scale" -d 'Show or set how many bots there may be'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "drain" -d 'Refuse new tasks, finish what runs, stop the bots (scale --max 0)'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "resume" -d 'End the limits set by scale or drain: those of the file are in force again'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "reload" -d 'Read the configuration file again; fails when it is refused'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "upgrade" -d 'Replace the running daemon\'s program in place; bots, tasks and connections are kept'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "config" -d 'Show and check the configuration'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "logs" -d 'Show the daemon\'s log'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "bench" -d 'Measure throughput and latency of a running fleet with tasks of its own'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "message" -d 'Send and read messages between bots'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "alerts" -d 'Show and resolve alerts'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "backup" -d 'Make, list and verify backups of the daemon\'s state'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "audit" -d 'Query and verify the audit trail'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "restore" -d 'Restore a backup; what is there is kept, and it can be undone'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "doctor" -d 'Say what is wrong and what to do'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "token" -d 'Create, list and revoke API tokens'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "rollback" -d 'Go back to an earlier release, with the state of a backup: drain, stop, restore, start, check, resume'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "preflight" -d 'Check a host before a deployment (not implemented yet)'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "checklist" -d 'Run the deployment checklist (not implemented yet)'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "deployments" -d 'List which releases ran here: since when, who brought them, under which configuration'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "top" -d 'Watch the fleet (not implemented yet)'
complete -c deiactl -n "__fish_deiactl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand status" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand status" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand status" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand status" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand status" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand status" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -s f -l file -d 'Read the task\'s text from a file' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -s w -l wait -d 'Wait for the result and print it; at most SECONDS, if given' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l type -d 'What kind of work: development, analysis, writing, planning, general [default: from the text]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -s p -l priority -d 'How urgent: P0, P1, P2 or P3 [default: P2]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l pool -d 'Only a bot of this pool' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l bot -d 'Only this bot' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l task-id -d 'The task\'s name; the same request under the same name is accepted once [default: made up]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l max-attempts -d 'Failures before the task is dead' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l timeout -d 'Seconds one attempt may take' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l not-before -d 'Not before this time (RFC 3339, as 2026-11-23T22:00:00Z)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l capability -d 'What the bot must offer; may be given several times' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l metadata -d 'A JSON object of your own, kept with the task' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l follow -d 'Print the output as it comes'
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand submit" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "list" -d 'List tasks, newest first'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "show" -d 'Show one task and its attempts'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "output" -d 'Print a task\'s output'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "cancel" -d 'Cancel a task, also while it runs'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "retry" -d 'Queue an ended task again'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "explain" -d 'Say why a task went where it went, or why it waits'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and not __fish_seen_subcommand_from list show output cancel retry explain help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l status -d 'Only in this status: scheduled, queued, running, succeeded, dead, cancelled, expired' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l bot -d 'Only of this bot' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l type -d 'Only of this type' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l priority -d 'Only of this priority' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -s n -l limit -d 'At most this many; 0 for all' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where a list ended (`next_cursor` of its JSON)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from show" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from show" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from show" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from show" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -s f -l follow -d 'Print what comes until the task has ended'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from output" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from cancel" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from cancel" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from cancel" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from cancel" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from cancel" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from retry" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from retry" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from retry" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from retry" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from retry" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from explain" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from explain" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from explain" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from explain" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "list" -d 'List tasks, newest first'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show one task and its attempts'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "output" -d 'Print a task\'s output'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "cancel" -d 'Cancel a task, also while it runs'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "retry" -d 'Queue an ended task again'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Say why a task went where it went, or why it waits'
complete -c deiactl -n "__fish_deiactl_using_subcommand task; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand bots" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bots" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bots" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bots" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bots" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bots" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "show" -d 'Say what it is, what happened to it, how often, and what comes next'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "start" -d 'Give it a process'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "stop" -d 'Let it finish its tasks and end its process'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "restart" -d 'Stop it and start it again'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "interrupt" -d 'End its running tasks; the bot stays'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "logs" -d 'Show what it printed'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "register" -d 'Let a program somewhere else lease tasks, and show its secret'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "unregister" -d 'Take an external bot out of the fleet'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and not __fish_seen_subcommand_from show start stop restart interrupt logs register unregister help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from show" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from show" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from show" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from show" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from start" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from start" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from start" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from start" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from stop" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from stop" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from stop" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from stop" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from restart" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from restart" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from restart" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from restart" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from restart" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from restart" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from interrupt" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from interrupt" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from interrupt" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from interrupt" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from interrupt" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from interrupt" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -s n -l lines -d 'How many lines from the end' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Print what comes'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l type -d 'general, developer, analyzer, writer, planner or validator' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l specialization -d 'What it offers; may be given again' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l max -d 'Tasks at once (3 where nothing is said)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l rotate -d 'Where it is registered: give it a new secret; the old one is refused at once'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from register" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from unregister" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from unregister" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from unregister" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from unregister" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from unregister" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from unregister" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "show" -d 'Say what it is, what happened to it, how often, and what comes next'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "start" -d 'Give it a process'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "stop" -d 'Let it finish its tasks and end its process'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "restart" -d 'Stop it and start it again'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "interrupt" -d 'End its running tasks; the bot stays'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "logs" -d 'Show what it printed'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "register" -d 'Let a program somewhere else lease tasks, and show its secret'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "unregister" -d 'Take an external bot out of the fleet'
complete -c deiactl -n "__fish_deiactl_using_subcommand bot; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l min -d 'At least this many bots' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l max -d 'At most this many bots; 0 drains' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l wait -d 'Wait until the fleet is within the limits; at most SECONDS, if given' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand scale" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -l wait -d 'Wait until nothing runs and no bot is left; at most SECONDS, if given' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand drain" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -l wait -d 'Wait until the fleet is within the limits; at most SECONDS, if given' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand resume" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand reload" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand reload" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand reload" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand reload" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand reload" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand reload" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand upgrade" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand upgrade" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand upgrade" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand upgrade" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand upgrade" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -f -a "show" -d 'Show the configuration in force, or one key of it'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -f -a "validate" -d 'Check a file, without a daemon; fails if any value would not be used'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -f -a "diff" -d 'Show what a reload would change'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -f -a "init" -d 'Write the sample configurations into the home\'s .deia/config'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and not __fish_seen_subcommand_from show validate diff init help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from show" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from show" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from show" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from validate" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from validate" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from validate" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from validate" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from validate" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from validate" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from diff" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from diff" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from diff" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from diff" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -l force -d 'Overwrite samples that were changed'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show the configuration in force, or one key of it'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "validate" -d 'Check a file, without a daemon; fails if any value would not be used'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Show what a reload would change'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "init" -d 'Write the sample configurations into the home\'s .deia/config'
complete -c deiactl -n "__fish_deiactl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -l bot -d 'Only what is about this bot' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -s n -l lines -d 'How many lines from the end' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -s f -l follow -d 'Print what comes, across rotation'
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand logs" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l tasks -d 'How many tasks' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l clients -d 'Connections that submit at the same time' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l batch -d 'Tasks in one request' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l content-bytes -d 'Bytes of each task\'s text' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l rate -d 'Offer so many tasks a second instead of as many as go' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l pool -d 'Only this pool' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l type -d 'The tasks\' type' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l wait -d 'Seconds to wait for the last result' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l tcp -d 'Submit over the daemon\'s TCP listener, not its admin socket'
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l submit-only -d 'Measure only the submissions; the tasks run or wait as they would anyway'
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand bench" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -f -a "send" -d 'Send a message to a bot'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -f -a "inbox" -d 'List a bot\'s messages, the most urgent first'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -f -a "read" -d 'Say that a message was read'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -f -a "conversation" -d 'Show the messages between two bots'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -f -a "broadcast" -d 'Send a message to every bot of a type'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and not __fish_seen_subcommand_from send inbox read conversation broadcast help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -l from -d 'In whose name; a bot\'s own in a task [default: the first pool\'s]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -s p -l priority -d 'How urgent: P0, P1, P2 or P3 [default: P2]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -l ttl -d 'Seconds it may wait to be read [default: timeouts.message_ttl_seconds]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from send" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -l bot -d 'Whose; a bot\'s own in a task [default: the first pool\'s]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -s p -l priority -d 'Only these' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -l limit -d 'At most so many' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from inbox" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from read" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from read" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from read" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from read" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from read" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from read" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -l bot -d 'The one; a bot\'s own in a task [default: the first pool\'s]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -l limit -d 'The newest so many' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from conversation" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l type -d 'To the bots of this type: general, developer, analyzer, writer, planner, validator' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l from -d 'In whose name; a bot\'s own in a task [default: the first pool\'s]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -s p -l priority -d 'How urgent: P0, P1, P2 or P3 [default: P2]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l ttl -d 'Seconds it may wait to be read [default: timeouts.message_ttl_seconds]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from broadcast" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from help" -f -a "send" -d 'Send a message to a bot'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from help" -f -a "inbox" -d 'List a bot\'s messages, the most urgent first'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from help" -f -a "read" -d 'Say that a message was read'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from help" -f -a "conversation" -d 'Show the messages between two bots'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from help" -f -a "broadcast" -d 'Send a message to every bot of a type'
complete -c deiactl -n "__fish_deiactl_using_subcommand message; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -l level -d 'Only those of this level: critical, warning or info' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -f -a "resolve" -d 'Silence an alert until its trouble is over and comes again, or gets worse'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and not __fish_seen_subcommand_from resolve help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from resolve" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from resolve" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from resolve" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from resolve" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from resolve" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from resolve" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from help" -f -a "resolve" -d 'Silence an alert until its trouble is over and comes again, or gets worse'
complete -c deiactl -n "__fish_deiactl_using_subcommand alerts; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -f -a "create" -d 'Make a backup now; returns when it is on disk and was read back'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -f -a "list" -d 'List the backups, newest first; also without a daemon'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -f -a "verify" -d 'Read every byte of a backup and say whether it is whole; also without a daemon'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -f -a "status" -d 'Show how it stands: the newest backup, the next one, the last restore'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and not __fish_seen_subcommand_from create list verify status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -l name -d 'Its name; a backup with a name is kept ten times as long' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -l description -d 'What it is for' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -l limit -d 'At most this many' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from verify" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from verify" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from verify" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from verify" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from status" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from status" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from status" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from status" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make a backup now; returns when it is on disk and was read back'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the backups, newest first; also without a daemon'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Read every byte of a backup and say whether it is whole; also without a daemon'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show how it stands: the newest backup, the next one, the last restore'
complete -c deiactl -n "__fish_deiactl_using_subcommand backup; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -f -a "query" -d 'List who did what, newest first'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -f -a "verify" -d 'Prove that nothing was changed, removed or added; name the first bad record'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and not __fish_seen_subcommand_from query verify help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l action -d 'Only this action: task_submitted, config_changed, scale_up, ...' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l actor -d 'Only by these: user:NAME, credential:HEX, anonymous@ADDRESS, bot:ID, daemon' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l target -d 'Only to this: a task, a bot, ...' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l level -d 'Only of this level: info, warning, critical' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l result -d 'Only with this result: success, failure, partial' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -s n -l limit -d 'At most this many; 0 for all' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l cursor -d 'Go on where a list ended (`next_cursor` of its JSON)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from query" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "query" -d 'List who did what, newest first'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Prove that nothing was changed, removed or added; name the first bad record'
complete -c deiactl -n "__fish_deiactl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -l undo -d 'Go back to the state from before the last restore'
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -l dry-run -d 'Verify every byte and row, show what would be, and change nothing'
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -s y -l yes -d 'Do not ask (nobody is asked where there is no terminal)'
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand restore" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand doctor" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand doctor" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand doctor" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand doctor" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand doctor" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand completions" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand completions" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand completions" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand completions" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand completions" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -f -a "create" -d 'Make a token and print it, this once'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -f -a "list" -d 'List the tokens, never the tokens themselves'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -f -a "revoke" -d 'End a token at once'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and not __fish_seen_subcommand_from create list revoke help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l scope -d 'What it may do: read, submit, bot or admin; may be given several times' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l name -d 'Whose it is, or what for' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l expires -d 'How long it lasts: 90s, 45m, 12h, 30d, 8w [default: until it is revoked]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from list" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from list" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from list" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from list" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from revoke" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from revoke" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from revoke" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from revoke" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make a token and print it, this once'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the tokens, never the tokens themselves'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from help" -f -a "revoke" -d 'End a token at once'
complete -c deiactl -n "__fish_deiactl_using_subcommand token; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l backup -d 'Which backup (deiactl backup list); else the newest whole one from before this release was deployed' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l version -d 'Which release: a version, or a name (deiactl deployments); else the one before' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l wait -d 'Seconds that running tasks have before they are cut short and queued again [default: 60]' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l keep-state -d 'Go back to the release alone: tasks and messages stay as they are'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l dry-run -d 'Check release and backup, show what would be, and change nothing'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l status -d 'Show how far the last one is, and follow it where it is under way'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -s y -l yes -d 'Do not ask (nobody is asked where there is no terminal)'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand rollback" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand preflight" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand preflight" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand preflight" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand preflight" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand preflight" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand checklist" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand checklist" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand checklist" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand checklist" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand checklist" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand deployments" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand deployments" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand deployments" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand deployments" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand deployments" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand deployments" -s h -l help -d 'Print help'
complete -c deiactl -n "__fish_deiactl_using_subcommand top" -l home -d 'The daemon\'s home directory' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand top" -l socket -d 'The daemon\'s admin socket' -r -F
complete -c deiactl -n "__fish_deiactl_using_subcommand top" -l url -d 'The daemon\'s TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)' -r
complete -c deiactl -n "__fish_deiactl_using_subcommand top" -l json -d 'Print the daemon\'s JSON instead of text for people'
complete -c deiactl -n "__fish_deiactl_using_subcommand top" -s q -l quiet -d 'Do not say on standard error which daemon answered'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "status" -d 'Show the daemon, its configuration, its bots and its queue'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "submit" -d 'Submit a task'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "task" -d 'List, show and steer tasks'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "bots" -d 'List the bots'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "bot" -d 'Show, start, stop, restart or interrupt one bot, show what it printed, or register an external one'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "scale" -d 'Show or set how many bots there may be'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "drain" -d 'Refuse new tasks, finish what runs, stop the bots (scale --max 0)'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "resume" -d 'End the limits set by scale or drain: those of the file are in force again'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "reload" -d 'Read the configuration file again; fails when it is refused'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "upgrade" -d 'Replace the running daemon\'s program in place; bots, tasks and connections are kept'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "config" -d 'Show and check the configuration'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "logs" -d 'Show the daemon\'s log'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "bench" -d 'Measure throughput and latency of a running fleet with tasks of its own'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "message" -d 'Send and read messages between bots'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "alerts" -d 'Show and resolve alerts'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "backup" -d 'Make, list and verify backups of the daemon\'s state'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "audit" -d 'Query and verify the audit trail'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "restore" -d 'Restore a backup; what is there is kept, and it can be undone'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "doctor" -d 'Say what is wrong and what to do'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "token" -d 'Create, list and revoke API tokens'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "rollback" -d 'Go back to an earlier release, with the state of a backup: drain, stop, restore, start, check, resume'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "preflight" -d 'Check a host before a deployment (not implemented yet)'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "checklist" -d 'Run the deployment checklist (not implemented yet)'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "deployments" -d 'List which releases ran here: since when, who brought them, under which configuration'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "top" -d 'Watch the fleet (not implemented yet)'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and not __fish_seen_subcommand_from status submit task bots bot scale drain resume reload upgrade config logs bench message alerts backup audit restore doctor completions token rollback preflight checklist deployments top help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from task" -f -a "list" -d 'List tasks, newest first'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from task" -f -a "show" -d 'Show one task and its attempts'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from task" -f -a "output" -d 'Print a task\'s output'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from task" -f -a "cancel" -d 'Cancel a task, also while it runs'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from task" -f -a "retry" -d 'Queue an ended task again'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from task" -f -a "explain" -d 'Say why a task went where it went, or why it waits'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "show" -d 'Say what it is, what happened to it, how often, and what comes next'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "start" -d 'Give it a process'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "stop" -d 'Let it finish its tasks and end its process'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "restart" -d 'Stop it and start it again'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "interrupt" -d 'End its running tasks; the bot stays'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "logs" -d 'Show what it printed'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "register" -d 'Let a program somewhere else lease tasks, and show its secret'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from bot" -f -a "unregister" -d 'Take an external bot out of the fleet'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Show the configuration in force, or one key of it'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "validate" -d 'Check a file, without a daemon; fails if any value would not be used'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "diff" -d 'Show what a reload would change'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "init" -d 'Write the sample configurations into the home\'s .deia/config'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from message" -f -a "send" -d 'Send a message to a bot'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from message" -f -a "inbox" -d 'List a bot\'s messages, the most urgent first'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from message" -f -a "read" -d 'Say that a message was read'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from message" -f -a "conversation" -d 'Show the messages between two bots'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from message" -f -a "broadcast" -d 'Send a message to every bot of a type'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from alerts" -f -a "resolve" -d 'Silence an alert until its trouble is over and comes again, or gets worse'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from backup" -f -a "create" -d 'Make a backup now; returns when it is on disk and was read back'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from backup" -f -a "list" -d 'List the backups, newest first; also without a daemon'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from backup" -f -a "verify" -d 'Read every byte of a backup and say whether it is whole; also without a daemon'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from backup" -f -a "status" -d 'Show how it stands: the newest backup, the next one, the last restore'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "query" -d 'List who did what, newest first'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "verify" -d 'Prove that nothing was changed, removed or added; name the first bad record'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from token" -f -a "create" -d 'Make a token and print it, this once'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from token" -f -a "list" -d 'List the tokens, never the tokens themselves'
complete -c deiactl -n "__fish_deiactl_using_subcommand help; and __fish_seen_subcommand_from token" -f -a "revoke" -d 'End a token at once'
