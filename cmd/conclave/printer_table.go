package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// tablePrinter draws boxes around lists of members and endpoints; etcdctl has
// no tables for anything else.
type tablePrinter struct {
	unsupported
	out io.Writer
}

func (p *tablePrinter) memberList(r *clientv3.MemberListResponse) error {
	return writeTable(p.out, memberHeader, memberRows(r))
}

func (p *tablePrinter) endpointHealth(list []endpointHealth) error {
	return writeTable(p.out, healthHeader, healthRows(list))
}

func (p *tablePrinter) endpointStatus(list []endpointStatus) error {
	return writeTable(p.out, statusHeader, statusRows(list))
}

func (p *tablePrinter) endpointHashKV(list []endpointHashKV) error {
	return writeTable(p.out, hashKVHeader, hashKVRows(list))
}

// writeTable draws rows under a header: headings in upper case and centred,
// cells to the right, one space of padding on both sides.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	widths := make([]int, len(header))
	heads := make([]string, len(header))
	for i, h := range header {
		heads[i] = strings.ToUpper(h)
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	b.WriteString(rule(widths, "┌", "┬", "┐"))
	b.WriteString(tableRow(heads, widths, centre))
	if len(rows) > 0 {
		b.WriteString(rule(widths, "├", "┼", "┤"))
	}
	for _, row := range rows {
		b.WriteString(tableRow(row, widths, right))
	}
	b.WriteString(rule(widths, "└", "┴", "┘"))
	_, err := fmt.Fprint(w, b.String())
	return err
}

func rule(widths []int, left, middle, end string) string {
	parts := make([]string, len(widths))
	for i, n := range widths {
		parts[i] = strings.Repeat("─", n+2)
	}
	return left + strings.Join(parts, middle) + end + "\n"
}

func tableRow(cells []string, widths []int, align func(string, int) string) string {
	parts := make([]string, len(cells))
	for i, cell := range cells {
		parts[i] = " " + align(cell, widths[i]) + " "
	}
	return "│" + strings.Join(parts, "│") + "│\n"
}

// right and centre fill a cell up to width characters; an odd space goes to
// the right of a centred cell.
func right(s string, width int) string {
	return strings.Repeat(" ", width-utf8.RuneCountInString(s)) + s
}

func centre(s string, width int) string {
	space := width - utf8.RuneCountInString(s)
	return strings.Repeat(" ", space/2) + s + strings.Repeat(" ", space-space/2)
}
