package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/conclave-kv/conclave/pki"
)

func certShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "Shows the certificates of a PEM file",
		ArgsUsage: "<file> (several are possible; - is standard input)",
		Action:    runCertShow,
	}
}

// maxCertFile bounds what is read of one file, in bytes.
const maxCertFile = 4 << 20

func runCertShow(c *cli.Context) error {
	if c.NArg() == 0 {
		return failf(exitBadArgs, "cert show needs a file, such as conclave cert show admin.pem")
	}
	format := c.String("write-out")
	if format != "simple" && format != "json" && format != "" {
		return failf(exitBadFeature, "--write-out %s: cert show prints simple or json", format)
	}
	var all []pki.Description
	for i, path := range c.Args().Slice() {
		text, err := readCertFile(c, path)
		if err != nil {
			return err
		}
		list, err := pki.Describe(text, time.Now())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, list...)
		if format == "json" {
			continue
		}
		for j, d := range list {
			if i+j > 0 {
				fmt.Fprintln(c.App.Writer)
			}
			printCert(c.App.Writer, d)
		}
	}
	if format == "json" {
		return json.NewEncoder(c.App.Writer).Encode(all)
	}
	return nil
}

func readCertFile(c *cli.Context, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(c.App.Reader, maxCertFile))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, maxCertFile))
}

func printCert(w io.Writer, d pki.Description) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-13s %s\n", name+":", value)
		}
	}
	line("Subject", d.Subject)
	line("Issuer", d.Issuer)
	line("Trust domain", d.TrustDomain)
	if d.Member != 0 {
		line("Member", fmt.Sprintf("%x", d.Member))
	}
	line("User", d.User)
	line("Hosts", strings.Join(d.Hosts, ", "))
	line("URIs", strings.Join(d.URIs, ", "))
	if d.CA {
		line("CA", "yes")
	}
	line("Usage", strings.Join(d.Usage, ", "))
	line("Key", d.Key)
	line("Valid from", d.NotBefore.Format(time.RFC3339))
	left := fmt.Sprintf("%d days left", d.DaysLeft)
	if d.DaysLeft < 0 {
		left = "expired"
	}
	line("Valid until", d.NotAfter.Format(time.RFC3339)+" ("+left+")")
	line("Serial", d.Serial)
	line("SHA-256", d.Fingerprint)
}
