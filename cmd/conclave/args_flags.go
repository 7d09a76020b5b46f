package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// knownFlag is what arrange needs to know of a flag.
type knownFlag struct {
	name    string // long name
	boolean bool   // stands without a value
}

// takeFlag reads the flag at args[0] and returns how many arguments it took.
// Both -name and --name are accepted, and -w json, -w=json and -wjson for
// one-letter names.
func (l *commandLine) takeFlag(args []string) (int, error) {
	spelled, value, hasValue := strings.Cut(args[0], "=")
	name := strings.TrimPrefix(strings.TrimPrefix(spelled, "-"), "-")
	if name == "h" || name == "help" {
		l.help = true
		return 1, nil
	}
	flag, ok := l.find(name)
	if !ok && !strings.HasPrefix(spelled, "--") {
		if l.takeShort(args[0]) {
			return 1, nil
		}
	}
	switch {
	case !ok:
		return 0, l.unknownFlag(spelled, name)
	case hasValue:
		l.flags = append(l.flags, givenFlag{name: flag.name, value: value})
		return 1, nil
	case flag.boolean:
		l.flags = append(l.flags, givenFlag{name: flag.name, value: "true", bare: true})
		return 1, nil
	case len(args) < 2:
		return 0, failf(l.usageCode(), "flag needs an argument: %s", spelled)
	}
	l.flags = append(l.flags, givenFlag{name: flag.name, value: args[1]})
	return 2, nil
}

// takeShort reads -wjson: a one-letter flag with its value attached. It reports
// whether arg is that.
func (l *commandLine) takeShort(arg string) bool {
	flag, ok := l.find(arg[1:2])
	if !ok || flag.boolean || len(l.words) == 0 && isServerFlag(flag.name) {
		return false
	}
	l.flags = append(l.flags, givenFlag{name: flag.name, value: strings.TrimPrefix(arg[2:], "=")})
	return true
}

// usageCode is the exit code for a wrong flag: etcd's before a command word is
// seen, etcdctl's afterwards.
func (l *commandLine) usageCode() int {
	if len(l.words) == 0 {
		return exitUsage
	}
	return exitError
}

// find looks a flag up in everything the line can still become: the words so
// far, what may follow them, the global flags and, while there is no word, the
// server's flags.
func (l *commandLine) find(name string) (knownFlag, bool) {
	for _, f := range l.candidates() {
		if slices.Contains(f.Names(), name) {
			return describe(f), true
		}
	}
	if len(l.words) == 0 {
		if f, ok := serverFlagNamed(name); ok {
			return knownFlag{name: f.name, boolean: f.boolean}, true
		}
	}
	return knownFlag{}, false
}

// candidates lists the flags find looks at, without the server's.
func (l *commandLine) candidates() []cli.Flag {
	var out []cli.Flag
	for _, w := range slices.Backward(l.words) {
		out = append(out, w.Flags...)
	}
	out = append(out, l.app.Flags...)
	var below func([]*cli.Command)
	below = func(cmds []*cli.Command) {
		for _, c := range cmds {
			out = append(out, c.Flags...)
			below(c.Subcommands)
		}
	}
	below(l.children())
	return out
}

func (l *commandLine) unknownFlag(spelled, name string) error {
	var names []string
	for _, f := range l.candidates() {
		names = append(names, f.Names()[0])
	}
	if len(l.words) > 0 {
		if isServerFlag(name) {
			return failf(exitError, "unknown flag: %s for %q (it is a flag of the server, which starts without a command word)", spelled, l.path())
		}
		return failf(exitError, "unknown flag: %s for %q%s", spelled, l.path(), didYouMean(name, "--", names))
	}
	names = append(names, serverFlagNames()...)
	hint := didYouMean(name, "--", names)
	if hint == "" {
		hint = "; see conclave --help"
	}
	return failf(exitUsage, "flag provided but not defined: -%s%s", name, hint)
}

// describe reads name and kind out of an urfave/cli flag.
func describe(f cli.Flag) knownFlag {
	takes, ok := f.(cli.DocGenerationFlag)
	return knownFlag{name: f.Names()[0], boolean: ok && !takes.TakesValue()}
}

// adviceFor says what to write instead of a value that is none for the flag,
// and nothing of one that is.
func adviceFor(f cli.Flag, value string) string {
	var err error
	advice := "write a whole number"
	switch f.(type) {
	case *cli.BoolFlag:
		_, err = strconv.ParseBool(value)
		advice = "write true or false"
	case *cli.DurationFlag:
		_, err = time.ParseDuration(value)
		advice = "write a duration, such as 500ms or 5s"
		if seconds := value + "s"; isDuration(seconds) {
			advice = "missing unit: write " + seconds
		}
	case *cli.IntFlag, *cli.Int64Flag:
		_, err = strconv.ParseInt(value, 0, 64)
	case *cli.Uint64Flag:
		_, err = strconv.ParseUint(value, 0, 64)
		advice = "write a whole number, and none below 0"
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, strconv.ErrRange):
		return "write a number of at most 64 bits"
	}
	return advice
}

func isDuration(s string) bool {
	_, err := time.ParseDuration(s)
	return err == nil
}

// flagOf returns the flag of that name, or nil.
func flagOf(flags []cli.Flag, name string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}
