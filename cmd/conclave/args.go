package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/conclave-kv/conclave/internal/version"
)

// commandLine is a command line put in order. Flags may stand anywhere, as in
// etcdctl; urfave/cli stops looking for them at the first word that is none
// and would take `get foo --prefix` for the range [foo, --prefix).
type commandLine struct {
	app   *cli.App
	words []*cli.Command // the command, from the root's child down
	flags []givenFlag    // in the order given
	rest  []string       // positional arguments
	// help is set by -h, --help or the word help; helpWord by the word.
	help, helpWord bool
}

// givenFlag is one flag as given. name is its long name.
type givenFlag struct {
	name, value string
	// bare is a flag without a value, for which value is "true".
	bare bool
}

// arrange sorts args into command words, flags and positional arguments. "--"
// ends the flags. A word that is no command and a flag nobody has are errors
// that name the nearest one.
func arrange(app *cli.App, args []string) (commandLine, error) {
	line := commandLine{app: app}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			if line.leaf() && line.words[len(line.words)-1].Name == watchWord {
				line.rest = append(line.rest, arg) // it ends the keys, too
			}
			line.rest = append(line.rest, args[i+1:]...)
			i = len(args)
		case len(arg) > 1 && arg[0] == '-':
			n, err := line.takeFlag(args[i:])
			if err != nil {
				return line, err
			}
			i += n - 1
		case line.leaf():
			line.rest = append(line.rest, arg)
		default:
			if err := line.takeWord(arg); err != nil {
				return line, err
			}
		}
	}
	if len(line.words) == 0 && len(line.rest) > 0 {
		return line, failf(exitError, "%q is not a valid flag: a word after -- must follow a command", line.rest[0])
	}
	if err := line.checkOwners(); err != nil {
		return line, err
	}
	return line, line.checkValues()
}

// checkOwners refuses flags that were known when they were read but do not
// belong to what the line became.
func (l *commandLine) checkOwners() error {
	for _, f := range l.flags {
		switch {
		case len(l.words) > 0 && l.owner(f.name) < 0:
			return l.unknownFlag("--"+f.name, f.name)
		case len(l.words) == 0 && !isServerFlag(f.name) && !l.help:
			return failf(exitUsage, "flag provided but not defined: -%s: it is a flag of the client commands, and there is no command word; see conclave help", f.name)
		}
	}
	return nil
}

// checkValues refuses what urfave/cli could not read either, because its words
// for that neither name the flag as it is written nor say what to write.
func (l *commandLine) checkValues() error {
	if len(l.words) == 0 || l.help {
		return nil
	}
	for _, f := range l.flags {
		flags := l.app.Flags
		if i := l.owner(f.name); i > 0 {
			flags = l.words[i-1].Flags
		}
		if advice := adviceFor(flagOf(flags, f.name), f.value); advice != "" {
			return failf(exitError, "invalid value %q for --%s: %s", f.value, f.name, advice)
		}
	}
	return nil
}

// owner returns which word has the flag: 0 is the program itself, 1 the first
// word; -1 is none.
func (l *commandLine) owner(name string) int {
	for i, w := range slices.Backward(l.words) {
		if flagOf(w.Flags, name) != nil {
			return i + 1
		}
	}
	if flagOf(l.app.Flags, name) != nil {
		return 0
	}
	return -1
}

// leaf reports whether the words so far name a command that can run.
func (l *commandLine) leaf() bool {
	return len(l.words) > 0 && len(l.words[len(l.words)-1].Subcommands) == 0
}

// children returns the commands that may come next.
func (l *commandLine) children() []*cli.Command {
	if len(l.words) == 0 {
		return l.app.Commands
	}
	return l.words[len(l.words)-1].Subcommands
}

// path returns the command in words, with the program's name.
func (l *commandLine) path() string {
	names := []string{l.app.Name}
	for _, w := range l.words {
		names = append(names, w.Name)
	}
	return strings.Join(names, " ")
}

func (l *commandLine) takeWord(word string) error {
	if word == "help" {
		l.help, l.helpWord = true, true
		return nil
	}
	var names []string
	var byPrefix []*cli.Command
	for _, c := range l.children() {
		if c.HasName(word) {
			l.words = append(l.words, c)
			return nil
		}
		if strings.HasPrefix(c.Name, word) {
			byPrefix = append(byPrefix, c)
		}
		names = append(names, c.Name)
	}
	if len(byPrefix) == 1 && word != "" {
		l.words = append(l.words, byPrefix[0])
		return nil
	}
	return l.unknownWord(word, names)
}

func (l *commandLine) unknownWord(word string, names []string) error {
	if len(l.words) == 0 {
		if n := len(l.flags); n > 0 && l.flags[n-1].bare && isServerFlag(l.flags[n-1].name) && isBool(word) {
			name := l.flags[n-1].name
			return failf(exitError, "%q is not a valid flag: write --%s=%s", word, name, word)
		}
		if now, ok := oldWords[word]; ok && now != "" {
			return failf(exitError, "unknown command %q for %q; today it is %q", word, l.path(), "conclave "+now)
		} else if ok {
			return failf(exitError, "unknown command %q for %q; the server starts without a command word: conclave [flags]", word, l.path())
		}
		if slices.Contains(laterWords, word) {
			return failf(exitError, "%s is not in conclave %s yet; conclave help lists what is", word, version.Conclave)
		}
	}
	hint := didYouMean(word, "", names)
	if hint == "" {
		hint = "; commands: " + strings.Join(names, ", ")
	}
	return failf(exitError, "unknown command %q for %q%s", word, l.path(), hint)
}

func isBool(s string) bool {
	return slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "1", "0"}, strings.ToLower(s))
}

// argv returns the line in the order urfave/cli wants: each flag right behind
// the word that owns it, then "--" and the positional arguments.
func (l *commandLine) argv() []string {
	out := []string{l.app.Name}
	for i := range len(l.words) + 1 {
		if i > 0 {
			out = append(out, l.words[i-1].Name)
		}
		for _, f := range l.flags {
			if l.owner(f.name) == i {
				out = append(out, "--"+f.name+"="+f.value)
			}
		}
	}
	return append(append(out, "--"), l.rest...)
}
