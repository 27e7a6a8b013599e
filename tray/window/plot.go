package window

import (
	"errors"
	"net/http"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

// plot is the last hour of a tunnel, a column for each quantity.
type plot struct {
	At          []int64   `json:"at"` // seconds since the epoch
	Connections []int64   `json:"connections"`
	BytesIn     []float64 `json:"bytesIn"` // a second
	BytesOut    []float64 `json:"bytesOut"`
	HeldMS      []int64   `json:"heldMs"`
	DialMS      []int64   `json:"dialMs"`
}

func plotOf(points []state.PlotPoint) plot {
	p := plot{At: []int64{}, Connections: []int64{}, BytesIn: []float64{}, BytesOut: []float64{}, HeldMS: []int64{}, DialMS: []int64{}}
	for _, point := range points {
		seconds := max(1, time.Duration(point.Span).Seconds())
		p.At = append(p.At, point.At.Unix())
		p.Connections = append(p.Connections, point.Connections)
		p.BytesIn = append(p.BytesIn, float64(point.BytesIn)/seconds)
		p.BytesOut = append(p.BytesOut, float64(point.BytesOut)/seconds)
		p.HeldMS = append(p.HeldMS, time.Duration(point.Held).Milliseconds())
		p.DialMS = append(p.DialMS, time.Duration(point.Dial).Milliseconds())
	}
	return p
}

// maxPlots bounds how many tunnels one request asks for: those that a page can show.
const maxPlots = 100

// servePlots sends the traffic of some tunnels, for the small plots of a list: bytes a
// second both ways, by tunnel. One that has gone meanwhile is left out.
func (s *Server) servePlots(w http.ResponseWriter, r *http.Request) {
	plots := make(map[string][]float64)
	names := r.URL.Query()["tunnel"]
	for _, name := range names[:min(len(names), maxPlots)] {
		points, err := s.cfg.Agent.TunnelPlot(r.Context(), name)
		if failed, ok := errors.AsType[*client.Error](err); ok && failed.Code == client.CodeNotFound {
			continue
		}
		if err != nil {
			fail(w, err)
			return
		}
		p, rates := plotOf(points), make([]float64, len(points))
		for i := range rates {
			rates[i] = p.BytesIn[i] + p.BytesOut[i]
		}
		plots[name] = rates
	}
	reply(w, plots)
}

func (s *Server) servePlot(w http.ResponseWriter, r *http.Request) {
	points, err := s.cfg.Agent.TunnelPlot(r.Context(), r.PathValue("name"))
	answer(w)(plotOf(points), err)
}
