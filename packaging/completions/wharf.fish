# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_wharf_global_optspecs
    string join \n root= h/help V/version
end

function __fish_wharf_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_wharf_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_wharf_using_subcommand
    set -l cmd (__fish_wharf_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c wharf -n "__fish_wharf_needs_command" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_needs_command" -s V -l version -d 'Print version'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "check" -d 'Check the files of containers and images, and wharf.toml, and explain every mistake in them'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "plan" -d 'Show a container\'s unit and the steps of its start; nothing is done'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "graph" -d 'Show containers, their links, published ports, volumes and binds'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "inspect" -d 'Show what was asked of a container, and what is in force'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "keys" -d 'Show what can be written in the files of containers and images, and in wharf.toml'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "ps" -d 'List containers and how they are'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "stats" -d 'Show what running containers use: CPU, memory, block devices, network'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "top" -d 'Show what running containers use, again and again'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "metrics" -d 'Print what containers are and use, in OpenMetrics form'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "port" -d 'Show published ports of containers, and where they lead'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "changed" -d 'List running containers whose files or image have changed since they started'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "run" -d 'Run a container that no file declares, until it ends'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "apply" -d 'Have what runs become what the files say; what doesn\'t work is put back'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "update" -d 'Run what the tags of images name now; what doesn\'t work is put back'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "exec" -d 'Run a program in a running container'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "shell" -d 'Open a shell in a running container'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "diff" -d 'Show what a running container has changed of its image'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "commit" -d 'Make an image of a running container'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "cp" -d 'Copy files out of a running container, or into it'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "enable" -d 'Have boot start a container'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "disable" -d 'Have boot leave a container alone'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "image" -d 'Import, pull, list, show, name and remove images'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "fsck" -d 'Check the images of the store, file by file'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "volume" -d 'List, show, export, import and snapshot volumes'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "network" -d 'List networks, and show who is on them'
complete -c wharf -n "__fish_wharf_needs_command" -f -a "doctor" -d 'Look for what keeps containers from running on this host, and say what to do about it'
complete -c wharf -n "__fish_wharf_using_subcommand check" -l as -d 'Check FILE as if it lay in PATH of the search path: with its drop-ins and neighbours there' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand check" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand check" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand check" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand plan" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand plan" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand graph" -s o -l output -d 'Write into FILE; its ending (.svg, .dot, .gv or .json) says what, where no option does' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand graph" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand graph" -l dot -d 'For graphviz'
complete -c wharf -n "__fish_wharf_using_subcommand graph" -l svg -d 'A picture'
complete -c wharf -n "__fish_wharf_using_subcommand graph" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand graph" -l state -d 'Ask systemd how containers are, and show it'
complete -c wharf -n "__fish_wharf_using_subcommand graph" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand inspect" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand inspect" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand inspect" -l show-environment -d 'Values of the environment too, which may be secret'
complete -c wharf -n "__fish_wharf_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand keys" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand keys" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand keys" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand ps" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand ps" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand ps" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand ps" -s a -l all -d 'Templates too, which run only as instances'
complete -c wharf -n "__fish_wharf_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand stats" -s i -l interval -d 'How long to measure; with 0, only what can be read at once' -r
complete -c wharf -n "__fish_wharf_using_subcommand stats" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand stats" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand stats" -s a -l all -d 'Those that don\'t run, too'
complete -c wharf -n "__fish_wharf_using_subcommand stats" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand stats" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand top" -s d -l interval -d 'From one look to the next' -r
complete -c wharf -n "__fish_wharf_using_subcommand top" -s s -l sort -d 'What to sort by' -r -f -a "name\t'By name'
cpu\t'By CPU time'
memory\t'By memory'
io\t'By what goes to and from block devices'
network\t'By what is received and sent'
restarts\t'By restarts'
health\t'By health, the bad ones first'"
complete -c wharf -n "__fish_wharf_using_subcommand top" -s f -l filter -d 'Only names with this in them' -r
complete -c wharf -n "__fish_wharf_using_subcommand top" -s n -l iterations -d 'End after so many tables' -r
complete -c wharf -n "__fish_wharf_using_subcommand top" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand top" -s a -l all -d 'Those that don\'t run, too'
complete -c wharf -n "__fish_wharf_using_subcommand top" -s r -l reverse -d 'The other way round'
complete -c wharf -n "__fish_wharf_using_subcommand top" -s b -l batch -d 'Print table after table, which needs no terminal'
complete -c wharf -n "__fish_wharf_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand metrics" -l textfile -d 'Into this file, in the place of an older one' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand metrics" -l format -d 'Without it: openmetrics, and prometheus with --textfile' -r -f -a "openmetrics\t'OpenMetrics 1.0'
prometheus\t'The text format of Prometheus, which node_exporter reads from files'"
complete -c wharf -n "__fish_wharf_using_subcommand metrics" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand port" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand port" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand port" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand port" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand changed" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand changed" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand changed" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand changed" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand run" -l name -d 'Its name; one is made up where none is given' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l pull -d 'When to fetch the image, instead of what its file says' -r -f -a "missing\t'Where the store doesn\'t have it'
always\t'Each time'
never\t'Never'"
complete -c wharf -n "__fish_wharf_using_subcommand run" -s v -l volume -d 'A folder of the host, or a named volume that is kept' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l tmpfs -d 'Memory, gone with the container' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l apparmor -d 'The AppArmor profile that confines the program and all that enters the container: a name that aa-status lists, or "unconfined" for none' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l credentials -d 'Secrets that systemd loads at each start, NAME, NAME:PATH or NAME:OTHER-NAME (LoadCredential=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l description -d 'One line for people; systemctl status shows it' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l encrypted-credentials -d 'As credentials, for secrets that systemd-creds encrypt has made (LoadCredentialEncrypted=, systemd 250)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l entrypoint -d 'Replaces the image\'s entry point, and with it the image\'s command' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -s e -l environment -l env -d 'Variables of the environment: over those of the image and of environment-files' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l environment-files -l env-file -d 'Files of the host with NAME=value lines, read at each start' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l group -d 'The group that runs the program: a name of the image\'s group file, or a number' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.command -l health-cmd -d 'The check: a program of the image that ends with 0 where all is well' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.http -d 'The check: a page that is answered with a status of 200 to 399, by plain HTTP, at localhost or an address of the container' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.image -d 'The check is the image\'s own HEALTHCHECK, with its times where these files have none; its StartInterval doesn\'t count' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.interval -d 'The time from the end of a check to the next, 100ms to a day' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.on-failure -d 'What an unhealthy container comes to: systemd stops it and starts it again by restart, or it is stopped for good, or it is only said [restart, stop, none]' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.retries -d 'How many checks in a row must fail before the container counts as unhealthy, 1 to 1000' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.start-period -d 'The time after a start in which failed checks don\'t count, unless one has passed; a day at most' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.tcp -d 'The check: a port that takes connections' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l health.timeout -d 'The time after which a check is killed, with its process group, and counts as failed, 100ms to a day' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l hostname -d 'The host name inside' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l init -d 'Keeps a small init as the container\'s process 1; it passes signals on and reaps' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.cpu -d 'CPU time, in per cent of one CPU (CPUQuota=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.cpu-weight -l cpu-weight -d 'The share of CPU time among neighbours where it is scarce, 1 to 10000 (CPUWeight=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.cpus -l cpuset-cpus -d 'The CPUs it may run on (AllowedCPUs=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.io-weight -d 'The share of disk time among neighbours where it is scarce, 1 to 10000 (IOWeight=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -s m -l limits.memory -l memory -d 'The most memory: bytes with K, M, G or T, per cent of the host\'s, or "infinity" (MemoryMax=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.memory-high -d 'Memory above which it is slowed down and reclaimed from (MemoryHigh=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.open-files -d 'File descriptors of each process: a number, "SOFT:HARD" or "infinity" (LimitNOFILE=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.swap -d 'The most swap, written like memory (MemorySwapMax=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l limits.tasks -l pids-limit -d 'Processes and threads: a number, per cent of the host\'s, or "infinity" (TasksMax=)' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l links -l link -d 'The containers that this one may connect to, at every port' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l mounts -l mount -d 'What is mounted into the root, by target: a path of the host, a named volume, or memory' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l network -d 'What it sees of the network: with "default" an interface of its own behind the host, with an address that stays; with "host" the host\'s interfaces; with "none" nothing but itself' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l notify-access -d 'With ready = "notify": who may speak to systemd, the container\'s process 1 or every process of it (NotifyAccess=) [main, all]' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -s p -l publish -d 'Ports of the host that lead to ports of the container, ADDRESS:HOST:CONTAINER/PROTOCOL' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l ready -d 'When a start is done, and what links to it goes on: when the program runs, when it says so by sd_notify(3), or when the first check of [health] has passed [exec, notify, healthy]' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l reload.command -d 'A program that is run inside, as the container\'s user; its exit status is the reload\'s' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l reload.signal -d 'The signal that is sent to the program' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l reload.wait -d 'With signal and ready = "notify": the reload lasts until the program says that it is done (RELOADING=1 together with MONOTONIC_USEC=, and then READY=1, of sd_notify(3))' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l restart -d 'When systemd starts it again: never, after a failure, or after every end that nobody asked for; a fifth of a second later, and each time in a row twice as long, up to a minute, until it was up for ten minutes [no, on-failure, always]' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l rootfs -d 'A folder of the host to use as root, instead of an image' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l runtime -d 'The longest that it may run; what takes longer is stopped, and has failed' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l stop.signal -l stop-signal -d 'The signal that asks the program to end' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l stop.timeout -l stop-timeout -d 'The time after which what is left is killed' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l survive-soft-reboot -d 'Whether it lives through systemctl soft-reboot, with all that it has; before systemd 255 it doesn\'t, and this does nothing' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l systemd.Service -d 'Settings of [Service], over Wharf\'s own; those that Wharf is built on are refused' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l systemd.Unit -d 'Settings of [Unit], in the same way' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l type -d 'Whether the program is to stay, or to end: systemctl start of a job waits for its end and says how it was, and what links to it starts after that, also when it has failed [service, job]' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -s u -l user -d 'The user that runs the program: a name of the image\'s passwd file, a number, or either with : and a group' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l user-namespace -d 'Whether ids inside are a range of their own outside, so that root inside is nobody outside' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -s w -l working-directory -l workdir -d 'The folder inside that the program starts in' -r
complete -c wharf -n "__fish_wharf_using_subcommand run" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand run" -s d -l detach -d 'In the background'
complete -c wharf -n "__fish_wharf_using_subcommand run" -s t -l terminal -l tty -d 'With a terminal, whatever the standard streams are'
complete -c wharf -n "__fish_wharf_using_subcommand run" -s T -l no-terminal -l no-tty -d 'Without a terminal'
complete -c wharf -n "__fish_wharf_using_subcommand run" -l toml -d 'Only print the container file that would do the same'
complete -c wharf -n "__fish_wharf_using_subcommand run" -l ephemeral -d 'Writes to the root go to memory, and are gone with the container (root = "ephemeral")'
complete -c wharf -n "__fish_wharf_using_subcommand run" -l read-only -d 'Writes to the root fail, as they do where nothing is said (root = "read-only")'
complete -c wharf -n "__fish_wharf_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand apply" -l settle -d 'How long a container must stay ready, like 10s, whatever its checks are' -r
complete -c wharf -n "__fish_wharf_using_subcommand apply" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand apply" -l dry-run -d 'Only show what would be done'
complete -c wharf -n "__fish_wharf_using_subcommand apply" -l retry -d 'Try what failed before once more, of those named or of all'
complete -c wharf -n "__fish_wharf_using_subcommand apply" -l no-wait -d 'Give up, and not wait, while another `wharf apply` is under way'
complete -c wharf -n "__fish_wharf_using_subcommand apply" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand apply" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand update" -l settle -d 'How long a container must stay ready, like 10s, whatever its checks are' -r
complete -c wharf -n "__fish_wharf_using_subcommand update" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand update" -l dry-run -d 'Only show what would be fetched, written and restarted'
complete -c wharf -n "__fish_wharf_using_subcommand update" -l pin -d 'Move the digests that images are pinned to in containers\' files'
complete -c wharf -n "__fish_wharf_using_subcommand update" -l no-wait -d 'Give up, and not wait, while `wharf apply` or another update is under way'
complete -c wharf -n "__fish_wharf_using_subcommand update" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand update" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand exec" -s u -l user -d 'As this user of the image\'s, by name or number' -r
complete -c wharf -n "__fish_wharf_using_subcommand exec" -s e -l env -d 'With one more variable; may be given again' -r
complete -c wharf -n "__fish_wharf_using_subcommand exec" -s w -l working-directory -d 'In this directory of the container' -r
complete -c wharf -n "__fish_wharf_using_subcommand exec" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand exec" -s t -l terminal -d 'With a terminal, whatever the standard streams are'
complete -c wharf -n "__fish_wharf_using_subcommand exec" -s T -l no-terminal -d 'Without a terminal'
complete -c wharf -n "__fish_wharf_using_subcommand exec" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand shell" -s u -l user -d 'As this user of the image\'s, by name or number' -r
complete -c wharf -n "__fish_wharf_using_subcommand shell" -s e -l env -d 'With one more variable; may be given again' -r
complete -c wharf -n "__fish_wharf_using_subcommand shell" -s w -l working-directory -d 'In this directory of the container' -r
complete -c wharf -n "__fish_wharf_using_subcommand shell" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand shell" -s t -l terminal -d 'With a terminal, whatever the standard streams are'
complete -c wharf -n "__fish_wharf_using_subcommand shell" -s T -l no-terminal -d 'Without a terminal'
complete -c wharf -n "__fish_wharf_using_subcommand shell" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand diff" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand diff" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand diff" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand diff" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l comment -d 'A remark for its history' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l entrypoint -d 'A word of the entry point; repeat it for more' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l command -d 'A word of the command; repeat it for more' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l env -d 'A variable of the environment' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l user -d 'The user, perhaps with `:GROUP`' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l workdir -d 'The working directory' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l stop-signal -d 'The signal that stops it' -r
complete -c wharf -n "__fish_wharf_using_subcommand commit" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand commit" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand cp" -l owner -d 'Everything belongs to this user and group there, by name or by number' -r
complete -c wharf -n "__fish_wharf_using_subcommand cp" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand cp" -l keep-set-id -d 'With set-user-id and set-group-id bits and file capabilities of what comes out of a container'
complete -c wharf -n "__fish_wharf_using_subcommand cp" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand enable" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand enable" -l no-reload -d 'Leave `systemctl daemon-reload` to somebody else; never done with --root, or where systemd isn\'t running'
complete -c wharf -n "__fish_wharf_using_subcommand enable" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand disable" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand disable" -l no-reload -d 'Leave `systemctl daemon-reload` to somebody else; never done with --root, or where systemd isn\'t running'
complete -c wharf -n "__fish_wharf_using_subcommand disable" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "import" -d 'Import an image from a file, a folder or standard input'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "pull" -d 'Pull images from registries and web servers'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "login" -d 'Log in to a registry, and keep that'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "logout" -d 'Forget a login'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "push" -d 'Push an image to a registry'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "load" -d 'Import an image from standard input or a file, as `image import` does'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "save" -d 'Write images as one archive'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "export" -d 'Write an image\'s root file system as one tar, all layers merged'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "history" -d 'Show the steps in which an image was made, the last first'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "list" -d 'List the images of the store'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "inspect" -d 'Show what an image runs and what it is made of'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "tag" -d 'Give an image another reference'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "remove" -d 'Take a reference away, and with an image\'s last one what no other image needs'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "prune" -d 'Take away what nothing declared, running or named needs'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "sign" -d 'Sign an image, or an archive, with gpg'
complete -c wharf -n "__fish_wharf_using_subcommand image; and not __fish_seen_subcommand_from import pull login logout push load save export history list inspect tag remove prune sign verify" -f -a "verify" -d 'Check whether this host trusts an image'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l name -d 'What the image is called, instead of what the source or its file name says' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l pick -d 'Which image of several, by its name in the source' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l signature -d 'A signature: a detached one of the archive, or one of the image; by default FILE.sig and FILE.asc are looked for where wharf.toml asks for signatures' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l digest -d 'The digest that the image\'s manifest must have' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l entrypoint -d 'A word of the entry point; repeat it for more' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l command -d 'A word of the command; repeat it for more' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l env -d 'A variable of the environment' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l user -d 'The user, perhaps with `:GROUP`' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l workdir -d 'The working directory' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l stop-signal -d 'The signal that stops it' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -l name -d 'What the image is called in the store, instead of what it is called there; for one image' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -l platform -d 'For another kind of machine: linux/arm64, linux/arm/v7' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -l auth-file -d 'A file of credentials that is looked into before the usual ones' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -l json -d 'An array of objects: reference, digest, index, from, layers, new-layers, fetched (bytes)'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -s q -l quiet -d 'No bars and no notes, and of each image only the digest'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from login" -s u -l username -d 'The name; asked for where it isn\'t given' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from login" -l auth-file -d 'The file to keep it in, instead of /etc/wharf/auth.json' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from login" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from login" -l password-stdin -d 'Read the password from standard input'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from logout" -l auth-file -d 'The file to take it out of, instead of /etc/wharf/auth.json' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from logout" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from logout" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from push" -l compress -d 'How layers are packed that the registry doesn\'t have' -r -f -a "gzip\t'As everybody reads'
zstd\t'Smaller and quicker; not for old clients'
none\t'As they are'"
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from push" -l auth-file -d 'A file of credentials that is looked into before the usual ones' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from push" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from push" -l json -d 'As JSON, for programs'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from load" -s i -l input -d 'A file or a folder, instead of standard input' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from load" -l name -d 'What the image is called, instead of what the archive says' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from load" -l pick -d 'Which image of several, by its name in the archive' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from load" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from load" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from save" -s o -l output -d 'The archive, instead of standard output' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from save" -l format -d 'The form of the archive' -r -f -a "oci\t'An OCI layout in a tar, with every digest'
docker\t'What `docker save` writes; loaded again, the image has another digest'"
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from save" -l compress -d 'Compress the layers' -r -f -a "gzip\t''
zstd\t''"
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from save" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from export" -s o -l output -d 'The tar, instead of standard output' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from export" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from history" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from history" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from history" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from list" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from list" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from list" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from inspect" -l platform -d 'With --remote: for another kind of machine' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from inspect" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from inspect" -l remote -d 'At its registry, without pulling it'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from inspect" -l json -d 'As JSON, for programs'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from tag" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from tag" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from remove" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from prune" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from prune" -s a -l all -d 'Also images with references that nothing declared or running uses'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from prune" -s n -l dry-run -d 'Only say what would go, with its size'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from prune" -l json -d 'As JSON, for programs'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -l archive -d 'A file to sign instead of an image of the store' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -l key -d 'Which of gpg\'s keys: an id, a fingerprint or an address' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -l as -d 'What the image goes by where it is used, if that is something else than here' -r
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -s o -l output -d 'Write the signature there; `-` is standard output' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -l lookaside -d 'Add it to a folder of signatures, for a web server to serve' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from verify" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from verify" -l fetch -d 'Look for signatures in the registry\'s lookaside, and keep the good ones'
complete -c wharf -n "__fish_wharf_using_subcommand image; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand fsck" -l from -d 'Where a damaged image may be had again: an archive, a layout or a folder, as for `wharf image import`' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand fsck" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand fsck" -l quick -d 'Presence, types and sizes only'
complete -c wharf -n "__fish_wharf_using_subcommand fsck" -l repair -d 'Put right what can be'
complete -c wharf -n "__fish_wharf_using_subcommand fsck" -l json -d 'As JSON, for programs'
complete -c wharf -n "__fish_wharf_using_subcommand fsck" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "list" -d 'List volumes, and who uses them'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "inspect" -d 'Show a volume: where it is, who has it where, and its snapshots'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "export" -d 'Write a volume as a tar'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "import" -d 'Make a volume of a tar'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "prune" -d 'Remove volumes that nothing names'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "snapshot" -d 'Take a snapshot of a volume that nobody uses'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "snapshots" -d 'List snapshots'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "restore" -d 'Put what a volume was at a snapshot in the place of what it is'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and not __fish_seen_subcommand_from list inspect export import prune snapshot snapshots restore drop-snapshot" -f -a "drop-snapshot" -d 'Remove snapshots of a volume'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from list" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from list" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from list" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from list" -s s -l size -d 'With what each takes on the disk, which means a look at every file'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from inspect" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from inspect" -l json -d 'As JSON, for programs'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s s -l size -d 'With what it takes on the disk, which means a look at every file'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from export" -s o -l output -d 'To this file, and not to standard output' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from export" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from export" -l live -d 'Also while it is in use: as it is at each moment'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from import" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from import" -l replace -d 'In the place of what it is now'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from prune" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from prune" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from prune" -l yes -d 'Remove them, with all that is in them'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from prune" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from snapshot" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from snapshots" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from snapshots" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from snapshots" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from snapshots" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from restore" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from drop-snapshot" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand volume; and __fish_seen_subcommand_from drop-snapshot" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand network; and not __fish_seen_subcommand_from list inspect" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand network; and not __fish_seen_subcommand_from list inspect" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand network; and not __fish_seen_subcommand_from list inspect" -f -a "list" -d 'List networks'
complete -c wharf -n "__fish_wharf_using_subcommand network; and not __fish_seen_subcommand_from list inspect" -f -a "inspect" -d 'Show a network: subnets, containers with their addresses and names, links, published ports'
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from list" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from list" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from list" -l json -d 'One array of objects, as below'
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from inspect" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from inspect" -l json -d 'As JSON, for programs'
complete -c wharf -n "__fish_wharf_using_subcommand network; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c wharf -n "__fish_wharf_using_subcommand doctor" -l format -d 'A line for each, made of the keys of the JSON: \'{name} {state}\'; or `table`, `json`' -r
complete -c wharf -n "__fish_wharf_using_subcommand doctor" -l report -d 'Write an archive for a bug report as well, here or to FILE, which must not be there yet' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand doctor" -l root -d 'Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]' -r -F
complete -c wharf -n "__fish_wharf_using_subcommand doctor" -l no-journal -d 'Without the journal in that archive'
complete -c wharf -n "__fish_wharf_using_subcommand doctor" -l json -d 'One object, as below'
complete -c wharf -n "__fish_wharf_using_subcommand doctor" -s h -l help -d 'Print help'
