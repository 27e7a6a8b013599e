package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/internal/plain"
	"berth/internal/replay"
	"berth/internal/web"
)

// The forms of an export.
var exportForms = []string{"html", "asciicast", "txt", "json"}

// recordingExportOptions are the flags of "berth recording export".
type recordingExportOptions struct {
	as, file, redact, cluster string
	force                     bool
}

func (a *app) recordingExportCommand() *cobra.Command {
	var o recordingExportOptions
	cmd := &cobra.Command{
		Use:   "export ID --as FORM [flags]",
		Short: "Write a recorded session to a file that others can open",
		Long: `Write a recorded session to a file that others can open:

  html       one page that plays it in a browser; needs no network
  asciicast  for asciinema and its players (version 2)
  txt        plain text
  json       every event, for programs

The file says who exported it and when. --redact masks what a regular expression
matches, in what was printed and in commands and queries. If it could still be
read, as on the screen, nothing is written.`,
		Example: `  berth recording export 5e1f0c2a --as html -o session.html
  berth recording export 5e1f0c2a --as asciicast -o - | asciinema play -
  berth recording export 5e1f0c2a --as txt -o out.txt --redact 'AKIA\w{16}'`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.completeRecordings,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if o.as == "" {
				return usageError{withHint(errors.New("--as is missing: in which form?"), "forms are "+strings.Join(exportForms, ", "))}
			}
			return noneEmptyFlags(cmd, "redact", "output", "cluster")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(exportForms, o.as) {
				return usageError{withHint(fmt.Errorf("--as %q is no form of an export", o.as), "forms are "+strings.Join(exportForms, ", "))}
			}
			pattern, err := redactPattern(o.redact)
			if err != nil {
				return usageError{err}
			}
			if err := a.policy.Load().Allows(config.FeatureRecordingExport); err != nil {
				return err
			}
			return a.withRecording(cmd, args[0], o.cluster, func(ctx context.Context, s *recordingStream) error {
				return a.exportRecording(ctx, s, o, pattern)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.as, "as", "", "the `FORM`: "+strings.Join(exportForms, ", "))
	f.StringVarP(&o.file, "output", "o", "", "the `FILE` to write; - is standard output; default: named like the session")
	f.StringVar(&o.redact, "redact", "", "mask what this regular expression (`REGEX`) matches")
	f.BoolVar(&o.force, "force", false, "overwrite the file if it exists")
	a.clusterFlag(cmd, &o.cluster)
	must(cmd.MarkFlagRequired("as")) // for completion; PreRunE has the better words
	must(cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(exportForms, noCompletions)))
	return cmd
}

// redactPattern reads what --redact was given; nil is what an empty text gives. A
// pattern that can match no character is a mistake: it would mask nothing.
func redactPattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no pattern is no error
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, withHint(fmt.Errorf("--redact: %w", err), "see https://pkg.go.dev/regexp/syntax")
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("--redact: %w", err)
	}
	takesCharacter := func(i syntax.Inst) bool {
		return slices.Contains([]syntax.InstOp{syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL}, i.Op)
	}
	pattern := regexp.MustCompile(text)
	switch {
	case !slices.ContainsFunc(prog.Inst, takesCharacter):
		return nil, fmt.Errorf("--redact: %q matches no character, so it would mask nothing", text)
	case pattern.MatchString(""):
		return nil, errors.New("--redact: the pattern matches nothing at all, so it would match everywhere")
	}
	return pattern, nil
}

func (a *app) exportRecording(ctx context.Context, s *recordingStream, o recordingExportOptions, pattern *regexp.Regexp) error {
	endings := map[string]string{"html": ".html", "asciicast": ".cast", "txt": ".txt", "json": ".json"}
	path := cmp.Or(o.file, "session-"+shortID(s.recording.ID)+endings[o.as])
	if path == "-" {
		if pattern != nil {
			return a.exportWhole(ctx, s, o, pattern)
		}
		return a.writeExport(ctx, s, o, pattern, a.out)
	}
	if err := exportable(path, o.force); err != nil {
		return err
	}
	// Under another name until it is whole.
	file, err := os.CreateTemp(filepath.Dir(path), ".berth-export-*")
	if err != nil {
		return exportError(path, err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it is gone once it has its name
	err = a.writeExport(ctx, s, o, pattern, file)
	_, damaged := errors.AsType[damagedError](err)
	if err != nil && !damaged {
		_ = file.Close() // it goes
		if failed, ok := errors.AsType[*fs.PathError](err); ok && failed.Path == file.Name() {
			return exportError(path, err)
		}
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return exportError(path, err)
	}
	if err := nameExport(file.Name(), path, o.force); err != nil {
		return err
	}
	if _, printErr := fmt.Fprintln(a.out, "wrote "+plain.Line(path)); printErr != nil {
		return printErr
	}
	return err // the recording is damaged
}

// exportWhole writes an export to standard output once it is known that nothing of
// it is refused. Until then it is in a file without a name.
func (a *app) exportWhole(ctx context.Context, s *recordingStream, o recordingExportOptions, pattern *regexp.Regexp) error {
	file, err := os.CreateTemp("", "berth-export-*")
	if err != nil {
		return fmt.Errorf("keep the export until it is whole: %w", err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // only where a file that is open keeps its name
	defer file.Close()           //nolint:errcheck // it goes
	_ = os.Remove(file.Name())
	err = a.writeExport(ctx, s, o, pattern, file)
	if _, damaged := errors.AsType[damagedError](err); err != nil && !damaged {
		return err
	}
	if _, seekErr := file.Seek(0, io.SeekStart); seekErr != nil {
		return seekErr
	}
	if _, copyErr := io.Copy(a.out, file); copyErr != nil {
		return copyErr
	}
	return err // the recording is damaged
}

// nameExport gives a file its name. It overwrites none that appeared meanwhile.
func nameExport(from, to string, force bool) error {
	if !force {
		switch err := os.Link(from, to); {
		case err == nil:
			return nil
		case errors.Is(err, os.ErrExist):
			return recordingExists(to)
		} // a file system without links
		if err := recordingExists(to); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return exportError(to, err)
	}
	return nil
}

// exportable says, before anything is read, why an export cannot be written to path.
func exportable(path string, force bool) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		what := "no regular file"
		if info.IsDir() {
			what = "a folder"
		}
		return usageError{withHint(fmt.Errorf("%s is %s", path, what), "name a file, or write to standard output with -o -")}
	}
	if force {
		return nil
	}
	return recordingExists(path)
}

// exportError names the file that was wanted, not the one with another name until
// it is whole.
func exportError(path string, err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		err = failed.Err
	} else if failed, ok := errors.AsType[*os.LinkError](err); ok {
		err = failed.Err
	}
	return withHint(fmt.Errorf("export to %s: %w", path, err), "name another file with -o, or write to standard output with -o -")
}

// writeExport writes a recording in a form.
func (a *app) writeExport(ctx context.Context, s *recordingStream, o recordingExportOptions, pattern *regexp.Regexp, to io.Writer) error {
	head := replay.NewHeader(s.recording, s.reader)
	places := 0
	if pattern != nil {
		head, places = replay.RedactHeader(pattern, head)
	}
	w, err := exportWriter(o.as, to, head)
	if err != nil {
		return err
	}
	var redactor *replay.Redactor
	if pattern != nil {
		redactor = replay.NewRedactor(pattern, w)
		defer redactor.Close()
		w = redactor
	}
	events, printed, err := s.copyTo(ctx, a, w)
	if visible, ok := errors.AsType[*replay.VisibleError](err); ok {
		return withHint(visible, "nothing was written: choose a pattern that matches less, or do not share this recording")
	}
	if err == nil && events > 0 && printed == 0 {
		fmt.Fprintln(a.err, "berth: "+plain.Line(noOutput(s.recording)))
	}
	if _, damaged := errors.AsType[damagedError](err); redactor != nil && (err == nil || damaged) {
		masked := redactor.Masked()
		places += masked.Printed
		if o.as != "txt" { // which leaves the words of events out
			places += masked.Words
		}
		fmt.Fprintln(a.err, "berth: "+maskedWords(places, o.redact))
	}
	return err
}

// maskedWords says what --redact did, since a pattern with a slip in it looks like
// one that did its work.
func maskedWords(places int, pattern string) string {
	switch places {
	case 0:
		return "masked nothing: no visible text matches " + plain.Line(pattern)
	case 1:
		return "masked 1 place"
	default:
		return fmt.Sprintf("masked %d places", places)
	}
}

func exportWriter(form string, to io.Writer, h replay.Header) (replay.Writer, error) {
	switch form {
	case "html":
		return replay.NewHTML(to, web.Player(), h)
	case "asciicast":
		return replay.NewAsciicast(to, h), nil
	case "json":
		return replay.NewJSON(to, h)
	default:
		head := fmt.Sprintf("%s\nexported by %s at %s\n", h.Title(), h.ExportedBy, h.ExportedAt.Format(time.RFC3339))
		if h.Redacted {
			head += "parts are masked\n"
		}
		if _, err := io.WriteString(to, head+"\n"); err != nil {
			return nil, err
		}
		return replay.NewPlainText(to), nil
	}
}
