package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/conclavepb"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "Looks at the audit logs of members",
		Subcommands: []*cli.Command{{
			Name:      "verify",
			Usage:     "Says whether the files of a member's audit log are as they were written",
			ArgsUsage: "FILE...",
			Description: "Give the files of one member, the oldest first; those that end in .gz are unpacked. Exits with 1\n" +
				"if a record was changed, taken out, put in or moved.\n" +
				"Who changes a file can make a chain anew: give --endpoints to compare it with what the cluster\n" +
				"remembers. That also tells whether the end was cut off.",
			Action: runAuditVerify,
		}},
	}
}

// auditReport is what audit verify has found.
type auditReport struct {
	Records  uint64   `json:"records"`
	First    uint64   `json:"first"`
	Last     uint64   `json:"last"`
	Compared bool     `json:"compared"` // with the cluster
	Anchored uint64   `json:"anchored"`
	Problems []string `json:"problems"`
	Notes    []string `json:"notes"`
}

func runAuditVerify(c *cli.Context) error {
	if c.NArg() == 0 {
		return failf(exitBadArgs, "audit verify: no file given; name the files of a member's audit log, the oldest first")
	}
	format := c.String("write-out")
	if format != "simple" && format != "json" {
		return failf(exitBadFeature, "--write-out %s: audit verify prints simple or json", format)
	}
	s, err := newSession(c)
	if err != nil {
		return err
	}
	v := &audit.Verifier{}
	compared := globals(c).IsSet("endpoints") || c.String("discovery-srv") != ""
	if compared {
		client, err := s.connect()
		if err != nil {
			return err
		}
		defer client.Close() //nolint:errcheck // the process ends next
		v.Anchors = func(member string) ([]audit.Head, error) { return s.auditAnchors(client, member) }
	}
	for _, name := range c.Args().Slice() {
		if err := readAudit(v, name); err != nil {
			return err
		}
	}
	sum := v.End()
	r := auditReport{Records: sum.Records, First: sum.First, Last: sum.Last, Compared: compared, Anchored: sum.Anchored, Problems: texts(v.Problems), Notes: texts(v.Notes)}
	if format == "json" {
		err = json.NewEncoder(c.App.Writer).Encode(r)
	} else {
		err = r.print(c)
	}
	if err == nil && len(r.Problems) > 0 {
		return failf(exitError, "the audit log is not as it was written: %s", r.Problems[0])
	}
	return err
}

func texts(list []audit.Problem) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

func readAudit(v *audit.Verifier, name string) error {
	f, err := audit.OpenRecords(name)
	if err != nil {
		return err
	}
	return errors.Join(v.Read(name, f), f.Close())
}

// auditAnchors asks the cluster. A member that is no id has no anchors.
func (s *session) auditAnchors(client *clientv3.Client, member string) ([]audit.Head, error) {
	id, err := strconv.ParseUint(member, 16, 64)
	if err != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(s.c.Context, s.c.Duration("command-timeout"))
	defer cancel()
	r, err := conclavepb.NewAuditClient(client.ActiveConnection()).Anchors(ctx, &conclavepb.AnchorsRequest{Member: id})
	if status.Code(err) == codes.Unimplemented {
		return nil, errors.New("the endpoint remembers no audit logs: it is not conclave, or an older version")
	}
	if err != nil {
		return nil, fmt.Errorf("ask the cluster about member %s: %w", member, err)
	}
	heads := make([]audit.Head, 0, len(r.GetAnchors()))
	for _, a := range r.GetAnchors() {
		h := audit.Head{Seq: a.GetSeq()}
		copy(h.Hash[:], a.GetHash())
		heads = append(heads, h)
	}
	return heads, nil
}

// print says what was found, line by line; the last one is of the whole.
func (r *auditReport) print(c *cli.Context) error {
	out := c.App.Writer
	for _, n := range r.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	if r.First > 1 {
		fmt.Fprintf(out, "note: the files begin at seq %d; what was before is not looked at\n", r.First)
	}
	for i, p := range r.Problems {
		if i > 0 { // the first is in the error
			fmt.Fprintln(out, "problem:", p)
		}
	}
	if len(r.Problems) > 0 {
		return nil
	}
	text := fmt.Sprintf("ok: %d records, seq %d..%d, ", r.Records, r.First, r.Last)
	if r.Compared {
		text += fmt.Sprintf("anchored up to seq %d", r.Anchored)
	} else {
		text += "not compared with the cluster: whether the end was cut off, or all of it written anew, cannot be said (give --endpoints)"
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
