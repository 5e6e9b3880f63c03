//! Wharf runs containers as ordinary systemd services.
//!
//! One TOML file per container in `/etc/wharf/containers` becomes a systemd unit by way of a generator. A
//! small executor sets up namespaces, root, mounts and privileges, hands the container's first process over
//! to systemd as systemd's own child, and is gone. No daemon, no shim. Files are the truth; all else is
//! derived from them and can be thrown away, except images, volumes and leases.
//!
//! # The way of one container file
//!
//! ```text
//!  /etc/wharf/containers/nginx.toml, and drop-ins
//!        │
//!        │  wharf-generator, at boot and at each daemon-reload        (wharf check, wharf plan: the same,
//!        ▼                                                             and what comes out is printed)
//!   generate::list, read     the search path ──► texts
//!        ▼
//!   spec::Document           a tree, each value with its place in a file; drop-ins merged in
//!        ▼
//!   check                    walks the tree by the table of keys, and the rules: every finding at once
//!        ▼
//!   check::across            all files in view: links to nothing, in circles, ports that two want
//!        ├──── errors ─────► report ──► a unit whose start fails and shows them, or the last good plan
//!        ▼
//!   check::Container         valid beside the others; nothing in it depends on the host
//!        ▼
//!   plan::unit ──► unit      nginx-container.service, and wharf/nginx.json, the plan, beside it
//!        │
//!        │  wharf-executor start nginx, from ExecStart=
//!        ▼
//!   root                     the image's layers, from the store, and what it says about its program
//!        ▼
//!   plan::process, steps     two lists of steps, as values
//!        ▼
//!   exec ──► sys, lease, volume,       takes the host's steps, makes the first process, which takes the
//!        │   net, names, running         inner ones and waits at the gate
//!        ▼
//!   systemd                  is told the main process; the gate opens; the program runs; READY=1
//! ```
//!
//! A file of an image goes the same way, into `NAME-image.service` and a plan for `wharf image provide`; and
//! what it says, with the aliases of `wharf.toml`, is filled into the containers that name the image.
//! `wharf.toml` ends in [`settings::Settings`], which commands read anew.
//!
//! # The rooms
//!
//! ```text
//!  bin/wharf ──► cli ──► bus (systemd over D-Bus) · image (import, save, list, fsck, prune, commit)
//!                 │                                    ▲  ▲
//!                 ├───────────► registry ──────────────┘  │  pull, push, login, update; the only HTTP and TLS
//!                 ├───────────► trust ────────────────────┘  what may enter the store, and run
//!                 │
//!                 ├───────────► generate, root        as below, to show what they would do
//!                 ├───────────► settings ──► generate, plan, check     what wharf.toml says now
//!                 ├───────────► graph                 checked containers as text, DOT and SVG
//!                 ├───────────► usage, net            what containers use, for stats, top and metrics
//!                 ├───────────► doctor ──► sys, net, exec, lease, image    what a host lacks, by looking and trying
//!                 ├───────────► exec, transient       `wharf run` waits for the executor; `wharf exec` becomes it
//!                 ├───────────► volume ──► archive    data: exports, imports, snapshots; `wharf cp` is archive alone
//!                 │
//!  bin/wharf-generator ──► generate ──► plan ──► check ──► spec ──► report
//!                            │           └──► unit
//!                            └──► held ──► image (what a reference names) · running
//!  bin/wharf-executor ──► exec ──► plan::{process, steps}
//!                           ├──► root ──► image
//!                           ├──► sys · lease · volume ──► tree
//!                           └──► net · names · running · last_good · held ──► watched · volume
//! ```
//!
//! [`spec`], [`report`], [`check`], [`plan`], [`mod@unit`] and [`graph`] are pure: no I/O, no clock, no
//! environment; so are the types of [`settings`], beside the one function that reads, and what [`doctor`] judges
//! and leaves out. `spec`, `unit` and
//! [`sys`] know nothing above them; `plan` and `sys` never meet, so that what happens is decided in one and
//! done by the other. `unit` alone escapes for systemd, `sys` alone is unsafe, [`bus`] alone speaks D-Bus,
//! [`net`] alone netlink and nftables, [`registry`] alone HTTP, and only [`cli`] and the binaries print.
//! [`host`] says where things live, [`apparmor`] what the kernel has of that, and [`journal`] takes Wharf's own words.
//!
//! | binary | is | links |
//! |---|---|---|
//! | `wharf` | the administrator's command | everything |
//! | `wharf-generator` | run by systemd at boot and at each reload, which wait for it | the pure rooms and `generate` |
//! | `wharf-executor` | run by each unit to start, and gone then; and by `wharf exec`, for as long as that | `exec`, the store's reading half, `sys` |
//!
//! # What is on disk
//!
//! ```text
//! /etc/wharf, /run/wharf, /usr/lib/wharf    containers/, images/, wharf.toml; the first wins by file name
//! /etc/wharf/keys                           OpenPGP keys whose signatures of images count (see `trust`)
//! /run/systemd/generator/NAME-container.service, wharf/NAME.json or NAME.findings
//!                       /NAME-image.service, wharf/images/NAME.json or NAME.findings
//!                       /NAME-container.{timer,socket}, NAME-container-{proxy,restart}.service
//!                                           made at each reload, which empties the folder before
//! /run/wharf/last-good/NAME.json            the plan of the last start that worked since boot
//! /run/wharf/findings.json                  what the last reload found
//! /run/wharf/running/NAME.json              what was started, while it runs (see `running`)
//! /run/wharf/restarts/NAME.json             its last start, for the delay before the next
//! /run/wharf/transient/NAME/                what `wharf run` has started, while it runs (see `transient`)
//! /run/wharf/apply.lock                     held by a `wharf apply` under way (see `held`)
//! /run/wharf/names/NAME/                    a running container's hosts, hostname, resolv.conf (see `names`)
//! /run/wharf/changed                        a socket of systemd's, which hears of reloads and new name servers
//! /run/wharf/stage                          empty; each executor mounts over it where nobody else sees it
//! /etc/wharf/auth.json                      logins at registries (see `registry`)
//! /var/lib/wharf/held/NAME.json             what a container falls back to, should a change of it fail (see `held`)
//!                    /NAME.{taking,taken,left,over}   the snapshots of its volumes meanwhile (see `held::snapshots`)
//! /var/lib/wharf                            kept: blobs, layers, refs, signatures and downloads that broke off
//!                                           (see `image`), volumes, leases
//! ```
//!
//! Each module that keeps something opens with its tree, locks and order of commit.
//!
//! # Decisions
//!
//! Where this is something else than one would expect, or than was once meant. What concerns one room alone
//! stands at its top: see [`image`], [`registry`] and [`trust`].
//!
//! - **What runs and has lost its file keeps a unit, made of its record.** systemd takes nearly all that it does at a
//!   unit's end from the unit's file: without one, a reload leaves `KillMode=control-group`, SIGTERM, 90 s, no command of
//!   Wharf's and no limits (seen with 252 and 257). A start by that unit is refused, and a restart before it stops
//!   anything; nor does systemd start again what ends by itself, as what no file declares isn't to be up.
//! - **Records of what runs are read with keys that aren't known, plans aren't.** What another version has started goes
//!   on, and its ports and links with it: what can't be read of a record never costs an element of the firewall. But a
//!   start that passed over a limit or a confinement would be another one.
//! - **Two kinds of steps**, [`plan::steps::HostStep`] and [`plan::steps::InnerStep`], and not one list: they
//!   run in two processes, with one moment between them, when the root stands. With two types a step can't
//!   end up on the wrong side.
//! - **The root is staged on a tmpfs in a private mount namespace, and always has an upper layer in memory.**
//!   Nobody on the host ever sees it, and it is gone with its last process, whatever kills that. With an
//!   upper layer, mount points and the files with the host's names can be made in any image; a read-only root
//!   is then a mount flag, set last.
//! - **The first process makes its own mount and cgroup namespaces late**, when the root stands, and not when
//!   it is cloned. Its mount namespace is a copy then, owned by its user namespace, and the kernel locks
//!   mounts that were copied so: nothing inside can take one away and see what is below it.
//! - **Documents are trees with a place for each value, walked by the table of keys** ([`spec::keys`]), and
//!   not structs derived by serde: a derived parser stops at the first mistake, and this one has to find all.
//!   The same table gives suggestions and `wharf keys`.
//! - **No file is written before all are checked.** A link is right or wrong by the other's file. What is
//!   found lies with the container that says it: who is linked to is never refused for that, only both ends
//!   of a circle, which systemd could only break by leaving one of them out.
//! - **A link is `Wants=` and `After=`.** A restart of the database must not restart all that use it; its
//!   address stays, so they may just connect again.
//! - **A container has one number, leased, and it is its place in both pools of addresses** and in the name
//!   of its interface. Address and name of what is linked to are known before it has ever run.
//! - **What is in force in the network follows from the records of running containers**, and a start or a
//!   stop changes elements of one table. So the table can be made anew at any time, from nothing but these
//!   records.
//! - **A flushed firewall is noticed by systemd.** `wharf-network.socket` is a netlink socket in the group
//!   that the kernel tells of changes to tables (`ListenNetlink=`, systemd.socket(5)); systemd polls it and
//!   starts `wharf-network.service`, which looks and repairs. No process waits. A table with an owner
//!   (`NFT_TABLE_F_OWNER`), its socket in systemd's fd store, would not be flushed at all, but only that
//!   socket may change it, and systemd hands it to one service only; as `Sockets=` of every container it
//!   would have `systemctl stop` warn each time that the socket can start the container again. The service
//!   has that socket pass over what executors change (a filter, on the name of who made a change), so that a
//!   start doesn't pay for it. The price is the time between a flush and the repair, in which nothing is let
//!   in or kept out.
//! - **A reload is told by a datagram**, to the same unit: systemd's path units are blind while it reloads,
//!   which is when generators run, and its sockets are not. Running containers' hosts files and links follow,
//!   when systemd has answered a barrier (sd_notify_barrier(3)): before that the reload isn't over, and plans
//!   may be missing.
//! - **New name servers are told in two steps.** A path unit doesn't watch while what it has started runs,
//!   and an editor changes a file more than once. So `wharf-network.path` starts a unit that does nothing,
//!   and only when that has ended, and systemd watches again, another one tells the socket. What changes from
//!   then on is seen. It watches all of /etc, since of a link systemd watches what it leads to, and misses a
//!   file moved over it.
//! - **netlink without tokio.** rtnetlink is async, and the executor clones. Messages are those of
//!   netlink-packet-route, over a blocking socket; the few of nf_tables are written by hand.
//! - **A published port is tried before, and not held**: a process of the host that takes it later gets it
//!   and hears nothing from outside. Holding it would take a descriptor for each in systemd's fd store.
//! - **A trial that nobody looks at any more ends by itself**, after ten minutes: the executor, which is there at the
//!   end of each run, has it count as proved. Else a `wharf apply` that was killed would have data of days undone at the
//!   next crash (see [`held`]). It needs no process and no timer that waits for it; the price is that a power cut, at
//!   which no executor runs, still goes back, with what was written since kept in a snapshot.
//! - **The last good plan is kept by the executor, after a start that worked**, and not by the generator,
//!   which only knows what was well written; and of a change that is being tried by `wharf apply`, after the proof.
//! - **An image's unit is oneshot, has no `RemainAfterExit=`, and names in a condition what the store has
//!   when there is nothing to do.** So systemd itself looks at each start of a container, for the price of
//!   one access(2), and an image that was removed is fetched again. It isn't ordered after
//!   network-online.target, which would order every boot after it: the command asks systemd for that target
//!   when it must fetch over the network, and waits. Containers want it and don't require it: what is in the
//!   store runs, also when it can't be had anew.
//! - **`TimeoutStartSec=` of an image's unit is how long it may go without a byte**: the command asks for
//!   more with `EXTEND_TIMEOUT_USEC=`, which systemd takes from a oneshot with `NotifyAccess=` as from any
//!   other type, where there is a timeout. So there is no limit to how large an image may be, and one to how
//!   long a dead peer holds up.
//! - **A pin in an image's file is written into its containers' plans**, and not only checked at the fetch: a
//!   reference in the store is a file that any import may replace.
//! - **A container's plan names its image's unit**; the unit of an image that only containers name is made
//!   from what these plans say, last good ones too. No such name needs a table of its own.
//! - **The image's stop signal is sent by `ExecStop=`** and isn't in the unit: the generator runs before /var
//!   needs to be mounted and may not read the store. A signal in the file is `KillSignal=`.
//! - **What enters a container is confined as its first process is, and not as its file says.** Signals within a
//!   container need one profile, also where that was started before the profile was loaded, or before an upgrade that
//!   brought it.
//! - **AppArmor's profile lets containers mount.** Who may mount at all is in a user namespace of the container's own,
//!   and systemd or an engine in there must; what comes from outside is locked by the kernel.
//! - **zbus and clap are in `wharf` only.** The generator is on the way of every boot, the executor of every
//!   start. A test searches the built binaries.
//! - **`wharf exec` turns into the executor, by way of a mount of that file alone that can't be written.** It
//!   is small and has one thread, and stays on the host while its child enters the container; and in the
//!   container of somebody who runs as the host's root, no unit's `ReadOnlyPaths=` stands before its file.
//! - **A job is `Type=oneshot`, handed over as any other**: systemd takes `MAINPID=` while a oneshot starts
//!   (`service_notify_message` in its src/core/service.c; seen with 252 and 257), so that the program's own end
//!   is the unit's, and `systemctl start` waits for it. `READY=1` means nothing to it. Its `runtime` is
//!   `TimeoutStartSec=`, as `RuntimeMaxSec=` has no effect on a oneshot; and ended while it starts, it gets
//!   `KillSignal=` without `ExecStop=`, so the image's own stop signal isn't sent. Nor is it to a service whose start takes
//!   too long or is stopped meanwhile, but by the init that checks, which knows it and sends it for that SIGTERM.
//! - **A container with a timer is a job unless it says otherwise**: of one that is always restarted, a timer
//!   would start nothing.
//! - **A timer only starts, and a start of what runs is nothing.** So `overlap = "restart"` has the timer start a
//!   unit of its own, which restarts the container and ends at once.
//! - **Timers and sockets of a refused container are made as far as they can be read**, and a timer without a time
//!   that can be read waits for the end of the calendar. A timer whose unit goes at a reload never elapses
//!   again, and a socket closes, also when the file has been put right (`timer_coldplug` and `socket_coldplug`
//!   of systemd's src/core). What they start meanwhile fails, and says why. What a socket starts, its proxy as well,
//!   is then restarted every half minute: a failed one would be started anew by the client that still waits, at once
//!   and until either is given up; and a reload finds that time over when the file has been put right.
//! - **Names of sockets are given by the executor.** systemd has one name for all sockets of a unit
//!   (`FileDescriptorName=`), and hands them over in the order of the file.
//! - **A container requires its sockets**: started by hand it would find none. A proxy is bound to its container
//!   (`BindsTo=`), so that no client is taken for one that has ended. With `idle-stop` the container is stopped when
//!   nobody needs it and wants its proxy, so that who starts it by hand has it for as long as a client would; a
//!   container that links to it needs it too.
//! - **The proxy is started by the executor**, which alone knows the container's address, waits until somebody
//!   listens there, and has a closed connection wait for the proxy: that counts idle time from the end of one.
//! - **Without a terminal, what `wharf exec` runs has the caller's own standard streams**, and nothing is
//!   relayed: a dump goes at full speed. The program is killed with `wharf exec`, by the kernel; what it has
//!   made itself is the container's.
//! - **The terminal of `wharf exec` is of the container's devpts, opened inside by the new process**, as the
//!   user and below the root of the mount namespace: the first process may have changed its own root.
//! - **The executor checks no signature; it asks `wharf` to.** The policy is in the plan, so that `any` and
//!   `digest` cost nothing at a start. The code that reads keys is several times the executor's own, and
//!   parses what others wrote.
//! - **An unhealthy container is restarted by systemd's watchdog, and stopped by its own init.** The init triggers
//!   the watchdog, so that `Restart=`, delays and limits are systemd's and the result is `watchdog`; the signal that
//!   systemd then sends is one that nothing else uses (`WatchdogSignal=`), and the init stops the program by the stop
//!   signal of the file or the image, which the generator can't know. SIGABRT, the default, would be a crash to a
//!   database; and `ExecStop=` isn't run after a watchdog.
//! - **What is to stay stopped ends with a status of its own**, which `RestartPreventExitStatus=` names: there is no
//!   word by which a service could tell systemd not to restart it.
//! - **The built-in checks of health run in a process of their own, too**, and know no names but `localhost`: they may
//!   wait, and read what they will, and the init goes on; and a name would be looked up by the C library, with modules
//!   of the image's.
//! - **A change that is tried leaves a mark before, and not after**: `trying`, with what to fall back to. Whoever starts
//!   the container without anybody looking after the trial, a boot or systemd's own `Restart=`, then starts what is
//!   known to work. Who looks after it is known by a lock, which no kill can leave behind. See [`held`].
//! - **The generator reads one folder below /var**, that of marks, where it is there: the last good plan has a unit of
//!   its own. Where /var comes later, the executor sees the mark, and starts that plan in the other unit.
//! - **What a container falls back to is kept as what was checked, with its image pinned**, and not as a unit's text:
//!   its unit is made anew by the Wharf and for the systemd that are there then.
//! - **A pin is moved by replacing its bytes where the parser found them**, and not by an editor of TOML: the rest of
//!   the file can't change then.
//! - **Whether a container changed is told by what its files mean**, and what is behind its tag, not by their text: a
//!   comment restarts nothing.
//! - **A reload by a signal is systemd's (`notify-reload`) where the program says when it is done**, and otherwise the
//!   executor's, which looks whether the program handles the signal. Only systemd knows what a program has said, so only
//!   there success has been proved. An init looks as well, before it passes that signal on.
//! - **A stop takes as long as systemd lets it**, which kills what is left then (`TimeoutStopFailureMode=kill`); the
//!   executor, which sends the image's signal, has no time limit of its own, since a program can ask for more time.
//! - **Every container that speaks to systemd has an fd store**, of 64 descriptors: without a number systemd keeps none,
//!   and a program isn't told.
//! - **`ready = "notify"` is refused without a user namespace**: of root on the host, systemd takes any process for the
//!   unit's main one.
//! - **A plan that is ready when it is healthy is kept as good by `ExecStartPost=`**, as the executor is gone then.
//! - **Delays between restarts grow in the executor**, and not by systemd's `RestartSteps=` (254): that counts restarts
//!   since somebody started the unit and never forgets (`service_restart_usec_next` in its src/core/service.c), so that
//!   what fails once a month ends up with the longest delay for each. Here a container that was up for a while begins
//!   anew, on every version. The wait is the beginning of the start, which says so by `STATUS=`; a stop ends it at once.
//! - **The last words on a run are `ExecStopPost=`'s**, so the unit's own commands may speak for it beside the container's
//!   process 1 (`NotifyAccess=exec`), which nothing in the container can be.
//! - **A snapshot is restored as a copy, exchanged for the volume in one step.** The snapshot itself moved there would
//!   be quicker, and after a power cut nobody could say whether to move it again. A volume isn't made a subvolume where
//!   btrfs would allow it: a host's own snapshots would then go without its containers' data, which nobody asked for.
//! - **Snapshots are taken and restored by the executor**, at the beginning of a start: of a restart, which is one job of
//!   systemd's, that is the one place between stop and start, and it is passed by whatever starts the container next,
//!   after a kill and a power cut too. `wharf apply` only writes into the mark that they are wanted.
//! - **How far snapshots have come is a file's name**, changed by rename: it needs no room on a disk that the version
//!   under trial has filled. "Restored" is durable before what is good runs, so that no start restores twice.
//! - **`snapshot = true` counts for `wharf apply` too, and for another image only**: an edit that names a new version
//!   can do to data what an update does. An edit of keys alone runs the same program, and takes back no data.
//! - **`wharf cp` is two halves of a tar**, one that packs and one that unpacks, whichever way it goes, with a pipe in
//!   between; exports and imports of volumes are one half each. It reaches a container by the descriptor of its root, from
//!   the host, and enters no namespace: who owns what is worked out by the leased range of ids, and what is made there is
//!   made under an id of the container's, which alone an idmapped mount takes.
//! - **An import of a volume is exchanged with what is there**, as a restored snapshot is, and holds no lock while it
//!   unpacks: a start waits for the exchange only.
//! - **A volume that has something mounted in it is neither copied nor removed**: its containers don't see that, and a
//!   removal that went into it would take somebody's other disk along. None goes into a mount, whatever it removes.
//! - **`wharf volume prune` looks once more for who names a volume, with its lock**, which a start takes as well: what was
//!   declared while it removed others isn't lost. Files that are masked, and those that nothing can be started by, count:
//!   one too many keeps data.
//! - **Whether a volume is in use is read from the kernel's lists of mounts**, as no process of Wharf's lives as long as
//!   a container to hold a lock; only a start holds one, until its mount is in such a list.
//! - **`wharf run` writes a container file**, in memory, and what comes after is the way of every file: the same checks,
//!   plan and unit. Only the last step is another one: the unit's settings become properties of a transient unit
//!   ([`plan::transient`]), and what has no translation is refused. So `wharf run --toml` can't say anything else than what
//!   is run.
//! - **The streams of `wharf run` go from hand to hand**, by a socket that only root can reach, and not by way of
//!   systemd, which would hold copies of them: a pipe's reader would not see the end. The executor's own words stay in
//!   the journal, and are told to the caller as well.
//! - **A transient container in the foreground is bound to a scope (`BindsTo=`) with one process in it that does nothing
//!   and that the kernel kills with `wharf run`** (`PR_SET_PDEATHSIG`). `wharf run` itself can't be in it: it would be
//!   taken out of the session, or the service, that it was started in.
//! - **What a transient container has in /run is its `RuntimeDirectory=`**, so that systemd takes it away, whatever
//!   ended the container, and keeps it over a restart; and by that variable the executor knows which plan is meant.
//! - **machined is told by two messages written by hand**, from the executor, which links no D-Bus: once the container
//!   runs, so that no start waits for it, and before a stop is over, since machined would go on to have a container that
//!   is restarted, with another leader. It makes no scope: the leader's unit is the container's own.
//! - **No tracing.** The executor's few lines go to the journal by its native protocol, with fields and an id for each
//!   kind of failure ([`journal`]): that is some fifty lines, where a subscriber and its layers would be in every start.
//!   Without a journal they go to standard error.
//! - **What containers use is read from the cgroups' files**, and not asked of systemd, which would read the same files
//!   for each property; systemd is asked for what only it knows: state, restarts, health, and when a run began. Not by
//!   cgroups-rs either: what is missing is 0 there, where here it is unknown, and it brings a second D-Bus library.
//!   Interfaces are counted by one answer of netlink's, the host's side of each pair.
//! - **`wharf top` draws by crossterm alone**: one table needs no library of widgets, whose three dozen crates would be
//!   there to lay it out. Its lines are those of `wharf stats`.
//! - **rustix for nearly all calls**, as it is typed and skips libc; nix for the user database only, which is
//!   libc's (NSS), and libc's own numbers.
//! - **`wharf plan` makes its plan anew from the files**, and doesn't print the one of the last reload: it is
//!   asked before a reload, and on machines that have no systemd. It says where the two differ.
//! - **`wharf graph` lays its pictures out itself**: on a server there is no graphviz, and its output differs
//!   from version to version, where ours is the same bytes for the same files and can be kept in a
//!   repository.
//! - **`wharf doctor` tries what no version tells**: whether a file system takes mapped mounts, and overlayfs these, is
//!   found by making them in a thread's own mount namespace. Each look is a thread with a limit of time, since what is
//!   wrong with a host may be that something hangs; one that does is left behind.
//! - **A report is made of keys that are known to be harmless**, and not by taking out those known to be secret: who
//!   misspells `[environment]` has a secret under a key that nobody knows. What is left out is also looked for in the
//!   journal and in all else.
//! - **`wharf enable` doesn't trust what it wrote**: it asks the generator's own code what all files say
//!   together, and the generator's links what systemd made of it. A later drop-in may have the last word, and
//!   a reload may have failed the last time.

pub mod apparmor;
pub mod archive;
pub mod bus;
pub mod check;
pub mod cli;
pub mod doctor;
pub mod exec;
pub mod generate;
pub mod graph;
pub mod held;
pub mod host;
pub mod image;
pub mod journal;
pub mod last_good;
pub mod lease;
pub mod names;
pub mod net;
pub mod plan;
pub mod registry;
pub mod report;
pub mod root;
pub mod running;
pub mod settings;
pub mod spec;
pub mod sys;
pub mod transient;
pub mod tree;
pub mod trust;
pub mod unit;
pub mod usage;
pub mod volume;
pub mod watched;
