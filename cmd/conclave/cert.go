package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/conclave-kv/conclave/pki"
)

// secretCommand is `conclave cluster-secret ...`.
func secretCommand() *cli.Command {
	return &cli.Command{
		Name:  "cluster-secret",
		Usage: "Makes the file that the members of a cluster share",
		Subcommands: []*cli.Command{{
			Name:  "new",
			Usage: "Makes the secret of a new cluster",
			Description: "The file lets each host join: copy it to every member and start each with\n" +
				"--cluster-secret-file. Whoever reads it can join the cluster, and with a member's\n" +
				"disk can issue any certificate of it. An existing file is never replaced.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "out", Value: "cluster.secret", Usage: "file to write, mode 0600"},
			},
			Action: runSecretNew,
		}},
	}
}

func runSecretNew(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		return failf(exitBadArgs, "--out: name the file to write")
	}
	secret, err := pki.NewSecret(time.Now())
	if err != nil {
		return err
	}
	if err := secret.Write(out); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "wrote %s: secret of the new trust domain %s (mode 0600)\n", out, secret.TrustDomain())
	fmt.Fprintf(c.App.Writer, "use it: copy it to every member over a channel you trust, and start each with --cluster-secret-file %s\n", out)
	return nil
}

// certCommand is `conclave cert ...`.
func certCommand() *cli.Command {
	return &cli.Command{
		Name:  "cert",
		Usage: "Makes and shows certificates",
		Subcommands: []*cli.Command{
			{
				Name:  "ca",
				Usage: "Makes certificate authorities",
				Subcommands: []*cli.Command{{
					Name:  "init",
					Usage: "Makes a CA of one's own, for use with --cert-file, --trusted-ca-file and their peers",
					Description: "A cluster started with --cluster-secret-file has its own CAs and needs none of\n" +
						"these. Issue from the directory with: conclave cert issue --ca-dir DIR ...",
					Flags: []cli.Flag{
						&cli.StringFlag{Name: "dir", Usage: "directory for ca.pem and ca-key.pem"},
						&cli.StringFlag{Name: "cn", Value: "conclave CA", Usage: "common name of the CA"},
						&cli.DurationFlag{Name: "lifetime", Value: pki.CALifetime, Usage: "validity of the CA"},
					},
					Action: runCAInit,
				}},
			},
			certIssueCommand(),
			certShowCommand(),
		},
	}
}

func runCAInit(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	dir := c.String("dir")
	if dir == "" {
		return failf(exitBadArgs, "--dir: name the directory for the CA, such as --dir ca")
	}
	ca, err := pki.InitCADir(dir, c.String("cn"), c.Duration("lifetime"), time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "wrote ca.pem and ca-key.pem (mode 0600) in %s: CA %q, valid until %s\n",
		dir, ca.Certificate().Subject.CommonName, ca.Certificate().NotAfter.UTC().Format(time.RFC3339))
	fmt.Fprintf(c.App.Writer, "use it: conclave cert issue --ca-dir %s --profile server --cn NAME --hosts NAME,ADDRESS --out DIR\n", dir)
	return nil
}

// noArgs refuses positional arguments.
func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return failf(exitBadArgs, "%s takes no argument, and %q is one", c.Command.HelpName, c.Args().First())
	}
	return nil
}
