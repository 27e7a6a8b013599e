package proxies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	gnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// Owner is the program that listens on a port.
type Owner struct {
	PID  int
	Name string // empty when the OS does not disclose it
}

// String names the program: `postgres (pid 812)`.
func (o *Owner) String() string {
	if o.Name == "" {
		return fmt.Sprintf("pid %d", o.PID)
	}
	return fmt.Sprintf("%s (pid %d)", o.Name, o.PID)
}

// PortOwner returns the program that listens on the TCP port of host, an IP
// address; nil when the OS does not disclose it, as for other users' programs.
// It may take tenths of a second.
func PortOwner(ctx context.Context, host string, port int) *Owner {
	socks, err := gnet.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return nil
	}
	for _, s := range socks {
		if s.Status != "LISTEN" || int(s.Laddr.Port) != port || s.Pid == 0 {
			continue
		}
		if !slices.Contains([]string{host, "0.0.0.0", "::", "*"}, s.Laddr.IP) {
			continue
		}
		owner := &Owner{PID: int(s.Pid)}
		if p, err := process.NewProcessWithContext(ctx, s.Pid); err == nil {
			owner.Name, _ = p.NameWithContext(ctx) // no name is an answer too
		}
		return owner
	}
	return nil
}

// nameOwner looks up the program that holds the port that err says is taken.
func (p *Port) nameOwner(ctx context.Context, err error) {
	var taken *PortError
	if !errors.As(err, &taken) || !errors.Is(err, ErrPortTaken) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	owner := PortOwner(ctx, taken.Host, taken.Port)
	if owner == nil {
		return
	}
	named := *taken
	named.Owner = owner
	p.mu.Lock()
	same := p.err == err //nolint:errorlint // identity is meant: nothing changed meanwhile
	if same {
		p.err = &named
	}
	p.mu.Unlock()
	if same {
		p.log.Warn("port is taken", "local_port", taken.Port, "owner", owner.Name, "owner_pid", owner.PID)
		p.onChange()
	}
}

// samePortError reports whether both errors say the same of the same port.
func samePortError(a, b error) bool {
	var pa, pb *PortError
	return errors.As(a, &pa) && errors.As(b, &pb) &&
		pa.Port == pb.Port && pa.Host == pb.Host && errors.Is(pa.Reason, pb.Reason)
}
