package main

import (
	"fmt"
	"strings"
)

func (u unsupported) snapshotStatus(snapshotStatus) error { return u.refuse() }

func (p *simplePrinter) snapshotStatus(s snapshotStatus) error {
	_, err := fmt.Fprintln(p.out, strings.Join(s.row(), ", "))
	return err
}

func (p *jsonPrinter) snapshotStatus(s snapshotStatus) error { return p.write(s) }

func (p *tablePrinter) snapshotStatus(s snapshotStatus) error {
	return writeTable(p.out, snapshotHeader, [][]string{s.row()})
}

func (p *fieldsPrinter) snapshotStatus(s snapshotStatus) error {
	p.field("Hash", s.Hash)
	p.field("Revision", s.Revision)
	p.field("Keys", s.TotalKey)
	p.field("Size", s.TotalSize)
	p.field("Version", s.Version)
	return nil
}
