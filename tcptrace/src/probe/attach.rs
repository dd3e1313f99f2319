//! Attaches each hook in the best way that this kernel allows.

use std::{collections::HashMap, fs::File, thread};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, FEntry, FExit, Iter, Program, ProgramError, SockOps,
        TracePoint,
    },
};
use tcptrace_common::{
    PROGRAM_ACCEPT, PROGRAM_CGROUP_MADE, PROGRAM_CONNECT_EXIT, PROGRAM_CREATE_CHILD, PROGRAM_HELD,
    PROGRAM_PROCESS_EXIT, PROGRAM_PROCESS_RENAME, PROGRAM_RETRANSMIT_SYNACK, PROGRAM_SEED,
    PROGRAM_SET_STATE_BTF, PROGRAM_SET_STATE_CLASSIC, PROGRAM_SYN, PROGRAM_TIMEWAIT,
    PROGRAM_TIMEWAIT_BEGIN, PROGRAM_TIMEWAIT_END, PROGRAMS_ACCEPT_EXIT, PROGRAMS_CONNECT,
    SECOND_COPIES,
};

use super::{
    config::{AttachMode, ProbeConfig},
    error::{ProbeError, brief, chain},
    hooks::{
        ACCEPT_CALLS, Exclusion, Hook, HookStatus, PROCESS_EXIT, Source, TRANSITIONS,
        reset_program, ways,
    },
    layout::KernelTypes,
    program::counts_misses,
};
use crate::{host::cgroup, privileges::capabilities};

/// What the kernel was found to have.
pub(super) struct KernelSupport<'a> {
    /// What BTF tells, or why there is none.
    pub(super) types: Result<&'a KernelTypes, &'a String>,
    /// BTF for the loader, or why there is none.
    pub(super) btf: Result<&'a Btf, &'a String>,
    /// Why the classic tracepoint's record cannot be read.
    pub(super) record: Result<(), &'a String>,
    /// Why the end of accept() cannot be read.
    pub(super) exit_ret: Result<(), &'a String>,
}

/// The object's programs by name.
type Programs<'a> = HashMap<&'a str, &'a mut Program>;

/// Attaches all hooks, the optional ones first: they must have seen what precedes a transition.
/// Meanwhile the verifier reads the programs of transitions, which take it longest.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    config: &ProbeConfig,
    kernel: &KernelSupport<'_>,
) -> Result<Vec<HookStatus>, ProbeError> {
    let (transitions, programs): (Programs<'_>, _) = ebpf
        .programs_mut()
        .partition(|(name, _)| TRANSITIONS.contains(name));
    let attacher = |programs| Attacher {
        programs,
        config,
        kernel,
        lacking: Vec::new(),
    };
    let mut transitions = attacher(transitions);
    let mut others = attacher(programs);
    let optional = thread::scope(|scope| {
        // Without a thread they are loaded when they are attached.
        let ahead = thread::Builder::new().name("load".to_owned());
        drop(ahead.spawn_scoped(scope, || transitions.load_ahead()));
        let hooks = Hook::ALL.iter().filter(|hook| **hook != Hook::SetState);
        hooks.map(|hook| others.optional(*hook)).collect::<Vec<_>>()
    });
    let mut hooks = vec![transitions.transitions()?];
    hooks.extend(optional);
    Ok(hooks)
}

struct Attacher<'a> {
    programs: Programs<'a>,
    config: &'a ProbeConfig,
    kernel: &'a KernelSupport<'a>,
    /// What the current hook is attached without.
    lacking: Vec<String>,
}

impl Attacher<'_> {
    /// Loads the programs of the required hook, without attaching them. What fails here fails
    /// again, and is reported, when it is attached.
    fn load_ahead(&mut self) {
        if self.config.attach == AttachMode::Tracepoint
            || self
                .load_tp_btf(PROGRAM_SET_STATE_BTF, Hook::SetState.name())
                .is_err()
        {
            return;
        }
        if let Some(second) = self.second_of(PROGRAM_SET_STATE_BTF) {
            drop(self.load_tp_btf(second, Hook::SetState.name()));
        }
    }

    /// Attaches the required hook.
    fn transitions(&mut self) -> Result<HookStatus, ProbeError> {
        let first = match self.config.attach {
            AttachMode::Auto | AttachMode::TpBtf => {
                self.tp_btf(PROGRAM_SET_STATE_BTF, Hook::SetState)
            }
            AttachMode::Tracepoint => Err("excluded by --attach tracepoint".to_owned()),
        };
        let source = match (first, self.config.attach) {
            (Ok(()), _) => Source::TpBtf,
            (Err(tp_btf), AttachMode::TpBtf) => {
                return Err(no_transitions(
                    tp_btf,
                    "excluded by --attach tp_btf".to_owned(),
                ));
            }
            (Err(tp_btf), AttachMode::Auto | AttachMode::Tracepoint) => {
                let attached = match self.kernel.record {
                    Err(why) => Err(why.clone()),
                    Ok(()) => {
                        self.tracepoint(PROGRAM_SET_STATE_CLASSIC, "sock", Hook::SetState.name())
                    }
                };
                match attached {
                    Ok(()) if self.kernel.types.is_ok() => Source::Tracepoint,
                    Ok(()) => Source::TracepointOnly,
                    Err(tracepoint) => {
                        return Err(no_transitions(tp_btf, tracepoint));
                    }
                }
            }
        };
        Ok(HookStatus {
            hook: Hook::SetState,
            attached: Ok(source),
            better: match source {
                Source::TpBtf => self.second_copy(PROGRAM_SET_STATE_BTF, Hook::SetState),
                Source::Tracepoint
                | Source::TracepointOnly
                | Source::Fentry
                | Source::Fexit
                | Source::SockOps
                | Source::Iter
                | Source::SockDiag => None,
            },
        })
    }

    /// Attaches an optional hook, in the best way first.
    fn optional(&mut self, hook: Hook) -> HookStatus {
        let mut refusals = Vec::new();
        let mut attached = None;
        for &source in ways(hook) {
            self.lacking.clear();
            match self.attach(hook, source) {
                Ok(()) => {
                    attached = Some(source);
                    refusals.append(&mut self.lacking);
                    break;
                }
                Err(why) => refusals.push(format!("{}: {why}", source.name())),
            }
        }
        if let (Some(Source::TpBtf), Some(program)) = (attached, reset_program(hook)) {
            refusals.extend(self.second_copy(program, hook));
        }
        let refused = refusals.join("; ");
        match attached {
            Some(source) => HookStatus {
                hook,
                attached: Ok(source),
                better: (!refused.is_empty()).then_some(refused),
            },
            None => HookStatus {
                hook,
                attached: Err(refused),
                better: None,
            },
        }
    }

    fn attach(&mut self, hook: Hook, source: Source) -> Result<(), String> {
        let excluded = self.config.without.iter().find(|exclusion| {
            **exclusion == Exclusion::Hook(hook) || **exclusion == Exclusion::Source(source)
        });
        if let Some(exclusion) = excluded {
            return Err(format!("excluded by --without {exclusion}"));
        }
        let types = self.kernel.types.map_err(|why| format!("no BTF: {why}"))?;
        match (hook, source) {
            (Hook::CreateChild, Source::Fentry) => {
                types.request()?;
                self.fentry(PROGRAM_CREATE_CHILD, hook)
            }
            (Hook::CreateChild, Source::SockOps) => self.sock_ops(),
            (Hook::Accept, Source::Fexit) => {
                types.accept()?;
                self.fexit(PROGRAM_ACCEPT, hook)
            }
            (Hook::Accept, Source::Tracepoint) => {
                types.file()?;
                self.kernel.exit_ret.map_err(Clone::clone)?;
                for (program, call) in PROGRAMS_ACCEPT_EXIT.into_iter().zip(ACCEPT_CALLS) {
                    self.tracepoint(program, "syscalls", call)?;
                }
                Ok(())
            }
            (Hook::Connect, Source::Fexit) => self.connects(),
            (Hook::Connect, Source::Tracepoint) => {
                types.call()?;
                self.kernel.exit_ret.map_err(Clone::clone)?;
                self.tracepoint(PROGRAM_CONNECT_EXIT, "syscalls", "sys_exit_connect")
            }
            (Hook::Timewait, Source::Fexit) => self.fexit(PROGRAM_TIMEWAIT, hook),
            (Hook::TimewaitProcess, Source::Fexit) => {
                types.timewait()?;
                self.load_fentry(PROGRAM_TIMEWAIT_BEGIN, hook)?;
                self.fexit(PROGRAM_TIMEWAIT_END, hook)?;
                self.attach_fentry(PROGRAM_TIMEWAIT_BEGIN)
            }
            (Hook::ReceiveReset | Hook::SendReset, Source::TpBtf) => {
                self.tp_btf(reset_program(hook).ok_or("it is no hook of resets")?, hook)
            }
            (Hook::RetransmitSynack, Source::TpBtf) => self.tp_btf(PROGRAM_RETRANSMIT_SYNACK, hook),
            (Hook::Process, Source::TpBtf) => {
                types.process()?;
                self.tp_btf_of(PROGRAM_PROCESS_EXIT, PROCESS_EXIT)?;
                self.tp_btf(PROGRAM_PROCESS_RENAME, hook)
            }
            (Hook::Cgroup, Source::TpBtf) => {
                types.cgroup()?;
                self.tp_btf(PROGRAM_CGROUP_MADE, hook)
            }
            (Hook::Sockets, Source::Iter) => self.load_iter(),
            // With BTF, events carry their sockets' cookies.
            (Hook::Sockets, Source::SockDiag) => Ok(()),
            (hook, source) => Err(format!(
                "{} is not available as {}",
                hook.name(),
                source.name()
            )),
        }
    }

    fn program<'p, P>(&'p mut self, name: &str) -> Result<&'p mut P, String>
    where
        &'p mut P: TryFrom<&'p mut Program, Error = ProgramError>,
    {
        let program = self.programs.get_mut(name);
        named(program.map(|program| &mut **program), name)
    }

    /// Returns the second copy of a program, if the kernel skips runs and counts them.
    fn second_of(&self, first: &str) -> Option<&'static str> {
        let counts = self
            .programs
            .get(first)
            .is_some_and(|program| counts_misses(program));
        let &(_, second) = SECOND_COPIES.iter().find(|(of, _)| *of == first)?;
        counts.then_some(second)
    }

    /// Attaches the second copy of a program, behind the first. Returns why it cannot.
    fn second_copy(&mut self, first: &str, hook: Hook) -> Option<String> {
        let second = self.second_of(first)?;
        let refused = self.tp_btf(second, hook).err()?;
        Some(format!(
            "without a second copy, for what the kernel skips of the first: {refused}"
        ))
    }

    fn tp_btf(&mut self, name: &str, hook: Hook) -> Result<(), String> {
        self.tp_btf_of(name, hook.name())
    }

    fn tp_btf_of(&mut self, name: &str, tracepoint: &str) -> Result<(), String> {
        self.load_tp_btf(name, tracepoint)?;
        let program: &mut BtfTracePoint = self.program(name)?;
        program.attach().map_err(|error| chain(&error))?;
        Ok(())
    }

    fn load_tp_btf(&mut self, name: &str, tracepoint: &str) -> Result<(), String> {
        let btf = self.kernel.btf.map_err(|why| format!("no BTF: {why}"))?;
        let program: &mut BtfTracePoint = self.program(name)?;
        match program.load(tracepoint, btf) {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
            Err(error) => Err(brief(&error)),
        }
    }

    fn fentry(&mut self, name: &str, hook: Hook) -> Result<(), String> {
        self.load_fentry(name, hook)?;
        self.attach_fentry(name)
    }

    fn load_fentry(&mut self, name: &str, hook: Hook) -> Result<(), String> {
        let btf = self.kernel.btf.map_err(|why| format!("no BTF: {why}"))?;
        let program: &mut FEntry = self.program(name)?;
        program
            .load(hook.name(), btf)
            .map_err(|error| brief(&error))
    }

    fn attach_fentry(&mut self, name: &str) -> Result<(), String> {
        let program: &mut FEntry = self.program(name)?;
        program.attach().map_err(|error| chain(&error))?;
        Ok(())
    }

    fn fexit(&mut self, name: &str, hook: Hook) -> Result<(), String> {
        self.fexit_of(name, hook.name())
    }

    fn fexit_of(&mut self, name: &str, function: &str) -> Result<(), String> {
        let btf = self.kernel.btf.map_err(|why| format!("no BTF: {why}"))?;
        let program: &mut FExit = self.program(name)?;
        program.load(function, btf).map_err(|error| brief(&error))?;
        program.attach().map_err(|error| chain(&error))?;
        Ok(())
    }

    fn tracepoint(&mut self, name: &str, category: &str, event: &str) -> Result<(), String> {
        let program: &mut TracePoint = self.program(name)?;
        program.load().map_err(|error| brief(&error))?;
        program
            .attach(category, event)
            .map_err(|error| chain(&error))?;
        Ok(())
    }

    /// Attaches the program for the sockets of every cgroup below, beside those that others have
    /// attached.
    fn sock_ops(&mut self) -> Result<(), String> {
        let place = cgroup::hierarchy()
            .ok_or_else(|| "the cgroup v2 hierarchy is not mounted".to_owned())?;
        if !cgroup::is_whole(&place) {
            // Traffic for the sockets of other cgroups would go unseen.
            return Err(format!(
                "{} is not the root of the host's hierarchy (as in a container with a cgroup namespace)",
                place.display()
            ));
        }
        let cgroup = File::open(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let program: &mut SockOps = self.program(PROGRAM_SYN)?;
        program.load().map_err(|error| brief(&error))?;
        program
            // A link shares the cgroup with others whatever this says, and takes no other flag.
            .attach(cgroup, CgroupAttachMode::Single)
            .map_err(|error| chain(&error))?;
        Ok(())
    }

    /// Attaches to the functions that connect() calls. TCP's own over IPv4 must exist; each of the
    /// others may be missing (IPv6 as a module, no security modules).
    fn connects(&mut self) -> Result<(), String> {
        self.kernel
            .types
            .map_err(|why| format!("no BTF: {why}"))?
            .file()?;
        for (n, (function, program)) in PROGRAMS_CONNECT.into_iter().enumerate() {
            match self.fexit_of(program, function) {
                Ok(()) => {}
                Err(why) if n == 0 => return Err(why),
                Err(why) => self.lacking.push(format!("without {function}: {why}")),
            }
        }
        Ok(())
    }

    fn load_iter(&mut self) -> Result<(), String> {
        let btf = self.kernel.btf.map_err(|why| format!("no BTF: {why}"))?;
        let program: &mut Iter = self.program(PROGRAM_SEED)?;
        program.load("tcp", btf).map_err(|error| brief(&error))?;
        let program: &mut Iter = self.program(PROGRAM_HELD)?;
        if let Err(error) = program.load("task_file", btf) {
            self.lacking.push(format!(
                "connections of namespaces that no process is in are not compared: {}",
                brief(&error)
            ));
        }
        Ok(())
    }
}

/// Returns why transitions cannot be traced, or which capabilities are missing.
fn no_transitions(tp_btf: String, tracepoint: String) -> ProbeError {
    let error = ProbeError::NoTransitions { tp_btf, tracepoint };
    if capabilities::lacking().is_empty() {
        error
    } else {
        ProbeError::not_permitted(error.to_string())
    }
}

/// Returns a program of the object by its name.
pub(super) fn program<'p, P>(ebpf: &'p mut Ebpf, name: &str) -> Result<&'p mut P, String>
where
    &'p mut P: TryFrom<&'p mut Program, Error = ProgramError>,
{
    named(ebpf.program_mut(name), name)
}

fn named<'p, P>(program: Option<&'p mut Program>, name: &str) -> Result<&'p mut P, String>
where
    &'p mut P: TryFrom<&'p mut Program, Error = ProgramError>,
{
    program
        .ok_or_else(|| format!("the object has no program {name}"))?
        .try_into()
        .map_err(|error: ProgramError| chain(&error))
}
