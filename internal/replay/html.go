package replay

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"berth/agent/state"
)

const (
	// pageMark is where a recording's data goes in the player's page.
	pageMark = "<!--recording-->"
	// chunkBytes is about how much of a recording is compressed at a time: the page
	// unpacks one chunk for a seek, and this program holds one.
	chunkBytes = 256 << 10
	// maxChunk ends a chunk even within a sequence, where the page cannot begin.
	maxChunk = 2 * chunkBytes
)

// HTML writes a recording as one page that plays it. The data stands in elements
// that are no script to a browser, as base64 and as JSON without "<": nothing of
// what a session printed can end its element.
type HTML struct {
	out     *bufio.Writer
	rest    []byte // of the page, after the data
	events  []any  // of the chunk
	printed bytes.Buffer
	size    int // of the chunk
	from    time.Duration
	limiter *limiter
	tracker *tracker
	packer  *flate.Writer
	total   htmlTotal
}

// htmlTotal is what the page knows of a recording ahead of reading it.
type htmlTotal struct {
	Duration int64 `json:"duration_ms"`
	Printed  int64 `json:"printed"` // bytes
	Others   int64 `json:"others"`  // events that print nothing
	Cut      bool  `json:"cut"`     // its end is missing
}

// A print of a chunk is [ms, bytes]; what it printed follows the JSON. Another
// event is [ms, 0, kind, text, cols, rows, fields].
type (
	htmlPrint [2]int64
	htmlEvent [7]any
)

// NewHTML returns a writer to w that puts a recording into the player's page.
func NewHTML(w io.Writer, page []byte, h Header) (*HTML, error) {
	head, rest, ok := bytes.Cut(page, []byte(pageMark))
	if !ok {
		return nil, errors.New("the player's page has no place for a recording")
	}
	packer, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		return nil, fmt.Errorf("compress the recording: %w", err)
	}
	p := &HTML{out: bufio.NewWriter(w), rest: rest, limiter: newLimiter(), tracker: newTracker(), packer: packer}
	if _, err := p.out.Write(head); err != nil {
		return nil, err
	}
	return p, p.element("recording-header", struct {
		Header

		Title string `json:"title"`
	}{h, h.Title()})
}

// element writes a value as JSON that the page finds by its id. encoding/json
// writes "<" as an escape.
func (p *HTML) element(id string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = fmt.Fprintf(p.out, "<script type=\"application/json\" id=\"%s\">%s</script>\n", id, raw)
	return err
}

// Feed takes an event.
func (p *HTML) Feed(ev state.RecordingEvent) error {
	p.total.Duration = max(p.total.Duration, ev.At.Milliseconds())
	if ev.Kind != state.EventPrint {
		p.total.Others++
		cols, rows := state.ShownSize(max(0, ev.Cols), max(0, ev.Rows))
		p.events = append(p.events, htmlEvent{ev.At.Milliseconds(), 0, ev.Kind, ev.Text, cols, rows, ev.Fields})
		if err := p.grow(ev.At, len(ev.Text)+len(ev.Fields)); err != nil {
			return err
		}
	}
	for data := p.limiter.take(ev); len(data) > 0; {
		n := min(len(data), 32<<10)
		p.print(ev.At.Milliseconds(), data[:n])
		if err := p.grow(ev.At, n); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// print adds what was printed; pieces of the same moment become one.
func (p *HTML) print(at int64, data []byte) {
	p.total.Printed += int64(len(data))
	p.printed.Write(data)
	for _, b := range data {
		p.tracker.advance(b)
	}
	if n := len(p.events); n > 0 {
		if last, ok := p.events[n-1].(htmlPrint); ok && last[0] == at {
			p.events[n-1] = htmlPrint{at, last[1] + int64(len(data))}
			return
		}
	}
	p.events = append(p.events, htmlPrint{at, int64(len(data))})
}

// grow ends the chunk when it is large enough, between two sequences if possible.
func (p *HTML) grow(at time.Duration, by int) error {
	const perEvent = 16 // bytes of JSON
	if p.size == 0 {
		p.from = at
	}
	p.size += by + perEvent
	if p.size >= maxChunk || p.size >= chunkBytes && p.tracker.clean() {
		return p.pack()
	}
	return nil
}

// pack writes the chunk.
func (p *HTML) pack() error {
	if p.size == 0 {
		return nil
	}
	raw, err := json.Marshal(p.events)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = fmt.Fprintf(p.out, "<script type=\"application/x-recording\" data-from=\"%d\">", p.from.Milliseconds())
	if err != nil {
		return err
	}
	encoder := base64.NewEncoder(base64.StdEncoding, p.out)
	p.packer.Reset(encoder)
	for _, part := range [][]byte{raw, {'\n'}, p.printed.Bytes()} {
		if _, err := p.packer.Write(part); err != nil {
			return err
		}
	}
	if err := errors.Join(p.packer.Close(), encoder.Close()); err != nil {
		return err
	}
	clear(p.events)
	p.events, p.size = p.events[:0], 0
	p.printed.Reset()
	_, err = p.out.WriteString("</script>\n")
	return err
}

// Cut has the page say that the recording's end is missing.
func (p *HTML) Cut() { p.total.Cut = true }

// Flush writes what is left, and the rest of the page.
func (p *HTML) Flush() error {
	if err := p.pack(); err != nil {
		return err
	}
	if err := p.element("recording-total", p.total); err != nil {
		return err
	}
	if _, err := p.out.Write(p.rest); err != nil {
		return err
	}
	return p.out.Flush()
}
