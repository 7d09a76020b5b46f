package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

var raftHeader = []string{"endpoint", "ID", "name", "role", "ready", "term", "leader", "log", "durable", "agreed", "applied", "state", "peers", "trouble"}

func (p *jsonPrinter) raftReports(list []raftAnswer) error { return p.write(list) }

// A table has a row for each member; the rest is in the other formats.
func (p *tablePrinter) raftReports(list []raftAnswer) error {
	var rows [][]string
	for _, a := range list {
		row := make([]string, len(raftHeader))
		row[0], row[len(row)-1] = a.Endpoint, a.Error
		if r := a.Report; r != nil {
			connected := 0
			for _, p := range r.Peers {
				if p.Inbound || p.Outbound {
					connected++
				}
			}
			row = []string{
				a.Endpoint, r.MemberId, r.Name, r.Role, fmt.Sprint(r.Ready), fmt.Sprint(r.Term), r.Leader,
				fmt.Sprintf("%d-%d", r.Log.GetFirstIndex(), r.Log.GetLastIndex()), fmt.Sprint(r.Log.GetDurableIndex()),
				fmt.Sprint(r.CommitIndex), fmt.Sprint(r.AppliedIndex), fmt.Sprint(r.StateIndex),
				fmt.Sprintf("%d of %d", connected, len(r.Peers)), strings.Join(r.Troubles, "; "),
			}
		}
		rows = append(rows, row)
	}
	return writeTable(p.out, raftHeader, rows)
}

// The simple form is a paragraph for each member.
func (p *simplePrinter) raftReports(list []raftAnswer) error {
	for i, a := range list {
		if i > 0 {
			fmt.Fprintln(p.out)
		}
		fmt.Fprintln(p.out, a.Endpoint)
		if a.Error != "" {
			reportLine(p.out, "error", "%s", a.Error)
			continue
		}
		printReport(p.out, a.Report)
	}
	return nil
}

// reportLine writes one line of a paragraph; a further one under the same
// heading has none.
func reportLine(w io.Writer, heading, format string, args ...any) {
	fmt.Fprintf(w, "  %-9s %s\n", heading, fmt.Sprintf(format, args...))
}

func printReport(w io.Writer, r *conclavepb.RaftReport) {
	stopped := r.Role == "stopped"
	ready := ""
	if !r.Ready && !stopped {
		ready = ", not ready"
	}
	reportLine(w, "member", "%s of cluster %s, %s%s", called(r, r.MemberId), r.ClusterId, r.Role, ready)
	heading := "trouble"
	for _, t := range r.Troubles {
		reportLine(w, heading, "%s", t)
		heading = ""
	}
	vote := "no vote given"
	if r.VotedFor != "" {
		vote = fmt.Sprintf("voted for %s in term %d", called(r, r.VotedFor), r.VotedTerm)
	}
	reportLine(w, "term", "%d, %s", r.Term, vote)
	if !stopped {
		printLeader(w, r)
	}
	printLog(w, r)
	printMembers(w, "members", r, r.Membership)
	printMembers(w, "agreed", r, r.AgreedMembership)
	if stopped {
		return
	}
	printPeers(w, r)
	if in := r.Install; in.GetReceivingFrom() != "" {
		reportLine(w, "install", "receiving entry %d's state from %s: %s of %s", in.ReceivingIndex, called(r, in.ReceivingFrom), bytesText(in.ReceivingBytes), bytesText(in.TotalBytes))
	}
	if r.Install.GetSending() {
		reportLine(w, "install", "sending the state to another member")
	}
	d := r.Disk
	text := fmt.Sprintf("writes take up to %s (half of them) and %s (99 %%), %s free", span(d.GetSyncP50Seconds()), span(d.GetSyncP99Seconds()), bytesText(d.GetFreeBytes()))
	if d.GetStuckSeconds() > 0 {
		text += fmt.Sprintf("; the one under way has taken %s", span(d.GetStuckSeconds()))
	}
	reportLine(w, "disk", "%s", text)
	if len(r.Alarms) > 0 {
		reportLine(w, "alarms", "%s", strings.Join(r.Alarms, ", "))
	}
}

func printLeader(w io.Writer, r *conclavepb.RaftReport) {
	if r.Leader == "" {
		reportLine(w, "leader", "none for %s", span(r.LeaderSeconds))
		return
	}
	contact := ""
	if r.Leader != r.MemberId {
		contact = ", heard of " + span(r.ContactSeconds) + " ago"
	}
	reportLine(w, "leader", "%s for %s%s", called(r, r.Leader), span(r.LeaderSeconds), contact)
}

func printLog(w io.Writer, r *conclavepb.RaftReport) {
	l := r.Log
	switch {
	case l.GetLastIndex() > 0:
		reportLine(w, "log", "entries %d to %d of term %d, durable to %d; %s in %s", l.FirstIndex, l.LastIndex, l.LastTerm, l.DurableIndex, bytesText(l.Bytes), files(l.Segments))
	case l.GetStartIndex() > 0:
		reportLine(w, "log", "empty, continues after entry %d", l.StartIndex)
	default:
		reportLine(w, "log", "empty")
	}
	applied := fmt.Sprintf("applied to %d, ", r.AppliedIndex)
	if r.Role == "stopped" {
		applied = ""
	}
	reportLine(w, "state", "agreed to %d, %sstate file at %d of term %d", r.CommitIndex, applied, r.StateIndex, r.StateTerm)
}

func printMembers(w io.Writer, heading string, r *conclavepb.RaftReport, m *conclavepb.RaftMembership) {
	if m == nil {
		return
	}
	at := ""
	if m.Index > 0 {
		at = fmt.Sprintf(", as of entry %d", m.Index)
	}
	reportLine(w, heading, "%d%s", len(m.Servers), at)
	for _, s := range m.Servers {
		reportLine(w, "", "%s %s %s", called(r, s.Id), s.Suffrage, strings.Join(s.PeerUrls, ","))
	}
}

func printPeers(w io.Writer, r *conclavepb.RaftReport) {
	heading := "peers"
	for _, p := range r.Peers {
		parts := []string{"not connected"}
		switch {
		case p.Inbound && p.Outbound:
			parts = []string{"in and out for " + span(p.ConnectedSeconds)}
		case p.Inbound:
			parts = []string{"in only for " + span(p.ConnectedSeconds)}
		case p.Outbound:
			parts = []string{"out only for " + span(p.ConnectedSeconds)}
		}
		if p.RoundTripSeconds > 0 {
			parts = append(parts, "round trip "+span(p.RoundTripSeconds), clock(p.ClockSkewSeconds))
		}
		if p.AckedIndex > 0 {
			parts = append(parts, fmt.Sprintf("acknowledged %d", p.AckedIndex))
		}
		if p.Error != "" {
			parts = append(parts, p.Error)
		}
		reportLine(w, heading, "%s %s", called(r, p.Id), strings.Join(parts, ", "))
		heading = ""
	}
}

func files(n int32) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func clock(ahead float64) string {
	if ahead < 0 {
		return "clock " + span(-ahead) + " behind"
	}
	return "clock " + span(ahead) + " ahead"
}

// called is a member's name and id, as far as the report knows them.
func called(r *conclavepb.RaftReport, id string) string {
	name := ""
	if id == r.MemberId {
		name = r.Name
	}
	for _, s := range r.Membership.GetServers() {
		if s.Id == id && s.Name != "" {
			name = s.Name
		}
	}
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}

// span writes a duration in few digits.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d.Abs() >= 10*unit {
			return d.Round(unit / 10).String()
		}
	}
	return d.String()
}
