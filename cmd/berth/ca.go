package main

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/internal/when"
)

func (a *app) caCommand() *cobra.Command {
	return commandGroup("ca", "Show the local CA, for clients that speak TLS with a tunnel",
		a.caPathCommand(), a.caShowCommand(), a.caTrustCommand())
}

// localCA asks the agent for the local CA, which it makes if there is none.
func (a *app) localCA(ctx context.Context) (ca client.LocalCA, err error) {
	err = a.withAgent(func(c *client.Client) (err error) {
		ca, err = c.LocalCA(ctx)
		return err
	})
	return ca, err
}

// caShown is the JSON of "berth ca".
type caShown struct {
	Path       string    `json:"path"`
	SHA256     string    `json:"sha256"`
	ValidUntil time.Time `json:"valid_until"`
	PEM        string    `json:"pem"`
}

func shownCA(ca client.LocalCA) caShown {
	s := caShown{Path: ca.Path, ValidUntil: ca.ValidUntil, PEM: string(ca.PEM)}
	if block, _ := pem.Decode(ca.PEM); block != nil {
		s.SHA256 = fmt.Sprintf("%X", sha256.Sum256(block.Bytes))
	}
	return s
}

func (a *app) caPathCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "path [flags]",
		Short: "Print the file of the local CA's certificate",
		Long: `Print the file of the local CA's certificate, which clients take as sslrootcert,
ssl-ca, tlsCAFile, --cacert and so on. The CA is good for this machine's loopback
addresses and names under kube.berth.internal alone; its key is elsewhere.`,
		Example: `  redis-cli -h 127.0.0.1 -p 16400 --tls --cacert "$(berth ca path)"`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ca, err := a.localCA(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(shownCA(ca))
			}
			_, err = fmt.Fprintln(a.out, ca.Path)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print path, fingerprint and certificate as JSON")
	return cmd
}

func (a *app) caShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [flags]",
		Short: "Show the local CA's certificate and what it can sign",
		Long: `Print the local CA's certificate in PEM, ready for a file or a dialog. Its file,
fingerprint and end come before it as comments, which readers of PEM skip.`,
		Example: `  berth ca show
  berth ca show > berth-ca.pem`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ca, err := a.localCA(cmd.Context())
			if err != nil {
				return err
			}
			s := shownCA(ca)
			if asJSON {
				return a.printJSON(s)
			}
			_, err = fmt.Fprintf(a.out, "# berth local CA: 127.0.0.0/8, ::1, localhost, *.kube.berth.internal\n"+
				"# file: %s\n# SHA-256: %s\n# valid until: %s\n%s",
				plain.Line(s.Path), s.SHA256, when.Format(s.ValidUntil, time.DateOnly), s.PEM)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print path, fingerprint and certificate as JSON")
	return cmd
}

func (a *app) caTrustCommand() *cobra.Command {
	var printed, asJSON bool
	cmd := &cobra.Command{
		Use:   "trust --print [flags]",
		Short: "Print the commands that make this system trust the local CA",
		Long: `Print the commands with which this system, and programs with trust of their own,
trust the local CA, and those that undo it. berth runs none of them: a client that
can name a file needs none ("berth ca path").`,
		Example: `  berth ca trust --print`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !printed && !asJSON {
				return usageError{withHint(errors.New("berth changes no system's trust"), "print the commands: berth ca trust --print")}
			}
			ca, err := a.localCA(cmd.Context())
			if err != nil {
				return err
			}
			list := trustCommands(runtime.GOOS, ca.Path, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
			if asJSON {
				return a.printJSON(list)
			}
			for i, t := range list {
				if i > 0 {
					_, _ = fmt.Fprintln(a.out)
				}
				_, err = fmt.Fprintf(a.out, "# %s\n%s\n", t.For, t.Trust)
				if t.Undo != "" {
					_, err = fmt.Fprintf(a.out, "# undo: %s\n", t.Undo)
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&printed, "print", false, "print the commands; berth runs none")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the commands as JSON")
	return cmd
}

// trustCommand is how something is made to trust the local CA.
type trustCommand struct {
	For   string `json:"for"`
	Trust string `json:"trust"`
	Undo  string `json:"undo"` // empty: unset the variable
}

// trustCommands are those of a system; has reports whether it has a program.
func trustCommands(goos, path string, has func(string) bool) []trustCommand {
	const alias = "berth-local-ca"
	file := shell.Quote(path)
	var list []trustCommand
	switch {
	case goos == "darwin":
		list = append(list, trustCommand{
			"macOS, for you alone", "security add-trusted-cert -r trustRoot -p ssl -k ~/Library/Keychains/login.keychain-db " + file,
			"security remove-trusted-cert " + file,
		})
	case goos == "windows":
		file = `"` + path + `"`
		list = append(list, trustCommand{
			"Windows, for you alone", "certutil -user -addstore Root " + file, `certutil -user -delstore Root "berth local CA"`,
		})
	case has("zypper"): // its update-ca-certificates reads another folder
		const to = "/etc/pki/trust/anchors/" + alias + ".crt"
		list = append(list, trustCommand{
			"this system (openSUSE)", "sudo cp " + file + " " + to + " && sudo update-ca-certificates",
			"sudo rm " + to + " && sudo update-ca-certificates",
		})
	case has("update-ca-certificates"):
		const to = "/usr/local/share/ca-certificates/" + alias + ".crt"
		list = append(list, trustCommand{
			"this system (Debian, Ubuntu, Alpine)", "sudo cp " + file + " " + to + " && sudo update-ca-certificates",
			"sudo rm " + to + " && sudo update-ca-certificates --fresh",
		})
	default:
		list = append(list, trustCommand{
			"this system (Fedora, RHEL, Arch)", "sudo trust anchor --store " + file, "sudo trust anchor --remove " + file,
		})
	}
	if has("certutil") && goos == "linux" {
		const store = `-d "sql:$HOME/.pki/nssdb"`
		list = append(list, trustCommand{
			"Chrome and Chromium", strings.Join([]string{"certutil", store, "-A -t C,, -n", alias, "-i", file}, " "),
			strings.Join([]string{"certutil", store, "-D -n", alias}, " "),
		})
	}
	return append(
		list,
		trustCommand{
			"Java (DBeaver, DataGrip and other JDBC, each with the keytool of its own Java)",
			"keytool -importcert -noprompt -cacerts -storepass changeit -alias " + alias + " -file " + file,
			"keytool -delete -cacerts -storepass changeit -alias " + alias,
		},
		trustCommand{For: "Node.js", Trust: nodeTrust(goos, file)},
	)
}

func nodeTrust(goos, file string) string {
	if goos == "windows" {
		return "setx NODE_EXTRA_CA_CERTS " + file
	}
	return "export NODE_EXTRA_CA_CERTS=" + file
}
