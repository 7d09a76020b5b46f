package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// signatures are the uses the program is made for, each shown once the
// command it needs is there.
var signatures = []struct{ command, line, about string }{
	{"", "conclave --discovery-srv example.com", "start a member; its peers are in DNS"},
	{"dev", "conclave dev", "start a whole cluster on this machine, to try things out"},
	{"cert", "conclave cert issue", "issue a certificate"},
	{"user", "conclave user|role ...", "manage users and roles"},
	{"get", "conclave put|get KEY ...", "use a cluster, as with etcdctl"},
	{"lock", "conclave lock NAME COMMAND", "run a command while holding a lock"},
	{"register", "conclave register KEY VALUE -- COMMAND", "register a service while it runs"},
}

// localCommands talk to no cluster; the global flags say nothing to them.
var localCommands = []string{"dev", "version", "cert ca init", "cert show", "cluster-secret new"}

// printHelp prints what was asked for: the word help alone is an overview,
// --help alone adds the server's flags, and with a command both are about it.
func printHelp(w io.Writer, line commandLine) error {
	var b strings.Builder
	switch {
	case len(line.words) > 0:
		commandHelp(&b, line.app, line.words)
	case line.helpWord:
		overview(&b, line.app)
		b.WriteString("\nMore: conclave COMMAND --help, and conclave --help for the flags of the server.\n")
	default:
		overview(&b, line.app)
		serverHelp(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func overview(b *strings.Builder, app *cli.App) {
	b.WriteString("conclave: a key-value store that finds its peers, certifies itself and speaks etcd\n\n")
	table(b, func(row func(string, string)) {
		for _, s := range signatures {
			if s.command == "" || app.Command(s.command) != nil {
				row(s.line, s.about)
			}
		}
	})
	b.WriteString("\nCommands:\n")
	table(b, func(row func(string, string)) { leaves(app.Commands, "", row) })
}

// serverHelp prints the server's flags by group.
func serverHelp(b *strings.Builder) {
	group := ""
	var rows []serverFlag
	flush := func() {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintf(b, "\n%s:\n", group)
		table(b, func(row func(string, string)) {
			for _, f := range rows {
				row("--"+f.name, f.usage)
			}
		})
		rows = nil
	}
	for _, f := range serverFlags() {
		if f.group != group {
			flush()
			group = f.group
		}
		rows = append(rows, f)
	}
	flush()
	b.WriteString("\nEach flag is also a variable: --data-dir is CONCLAVE_DATA_DIR or ETCD_DATA_DIR.\n" +
		"true and false are given with =, as in --pre-vote=false.\n")
}

// leaves calls row for every command that can run, with its words.
func leaves(cmds []*cli.Command, before string, row func(string, string)) {
	for _, c := range cmds {
		if len(c.Subcommands) > 0 {
			leaves(c.Subcommands, before+c.Name+" ", row)
		} else if !c.Hidden {
			row(before+c.Name, c.Usage)
		}
	}
}

func commandHelp(b *strings.Builder, app *cli.App, words []*cli.Command) {
	names := []string{app.Name}
	for _, w := range words {
		names = append(names, w.Name)
	}
	c := words[len(words)-1]
	fmt.Fprintf(b, "%s\n\n", c.Usage)
	if len(c.Subcommands) > 0 {
		fmt.Fprintf(b, "Usage: %s COMMAND\n\nCommands:\n", strings.Join(names, " "))
		table(b, func(row func(string, string)) { leaves(c.Subcommands, "", row) })
		return
	}
	fmt.Fprintf(b, "Usage: %s\n", strings.TrimSpace(strings.Join(names, " ")+" [flags] "+c.ArgsUsage))
	if c.Description != "" {
		fmt.Fprintf(b, "\n%s\n", c.Description)
	}
	flagHelp(b, "Flags", c.Flags)
	if slices.Contains(localCommands, strings.Join(names[1:], " ")) {
		return
	}
	flagHelp(b, "Global flags", app.Flags)
	b.WriteString("\nEach global flag is also a variable: --endpoints is CONCLAVE_ENDPOINTS or ETCDCTL_ENDPOINTS.\n")
}

func flagHelp(b *strings.Builder, title string, flags []cli.Flag) {
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	table(b, func(row func(string, string)) {
		for _, f := range flags {
			doc, ok := f.(cli.DocGenerationFlag)
			if !ok {
				continue
			}
			spelled := "--" + f.Names()[0]
			for _, short := range f.Names()[1:] {
				spelled = "-" + short + ", " + spelled
			}
			usage := doc.GetUsage()
			if def := doc.GetValue(); def != "" && def != "0" && def != "0s" && def != "false" {
				usage += " (default: " + strings.Trim(def, "[]") + ")"
			}
			row(spelled, usage)
		}
	})
}

// table writes two aligned columns.
func table(b *strings.Builder, rows func(row func(string, string))) {
	t := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	rows(func(left, right string) { fmt.Fprintf(t, "  %s\t%s\n", left, right) })
	_ = t.Flush() // into memory
}
