package cluster

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	apidefaults "github.com/gravitational/teleport/api/defaults"
	"github.com/gravitational/teleport/api/types"
	apievents "github.com/gravitational/teleport/api/types/events"
	"github.com/gravitational/trace"
)

// RecordingPage asks for a page of the sessions that ended in a span of time,
// the newest first.
type RecordingPage struct {
	From, To time.Time
	Limit    int
	Key      string // where the page before ended; empty means the first page
}

// RecordedSessions returns the events by which recorded sessions ended, and the
// key of the next page, which is empty after the last.
func (c *Cluster) RecordedSessions(ctx context.Context, name string, p RecordingPage) (ended []apievents.AuditEvent, next string, err error) {
	err = c.call(ctx, name, "list recordings", func(ctx context.Context, clt *client.Client) (err error) {
		ended, next, err = clt.SearchSessionEvents(ctx, p.From, p.To, p.Limit, types.EventOrderDescending, p.Key)
		return err
	})
	return ended, next, err
}

// DatabaseSessions returns the events by which sessions of databases ended, and
// the key of the next page. Only a role that may list all events gets them, and
// only versions before 17 leave them out of RecordedSessions.
func (c *Cluster) DatabaseSessions(ctx context.Context, name string, p RecordingPage) (ended []apievents.AuditEvent, next string, err error) {
	err = c.call(ctx, name, "list sessions of databases", func(ctx context.Context, clt *client.Client) (err error) {
		kinds := []string{"db.session.end"}
		ended, next, err = clt.SearchEvents(ctx, p.From, p.To, apidefaults.Namespace, kinds, p.Limit, types.EventOrderDescending, p.Key)
		return err
	})
	return ended, next, err
}

// SessionTrackers returns the sessions under way that the user may see, and such
// as ended within the last half hour.
func (c *Cluster) SessionTrackers(ctx context.Context, name string) ([]types.SessionTracker, error) {
	var trackers []types.SessionTracker
	err := c.call(ctx, name, "list sessions under way", func(ctx context.Context, clt *client.Client) (err error) {
		trackers, err = clt.GetActiveSessionTrackers(ctx)
		return err
	})
	return trackers, err
}

// RecordingScope returns the condition that every role which lets the user list
// recordings puts on them, such as that they took part; empty means there is a
// role without a condition, or none that says.
func (c *Cluster) RecordingScope(ctx context.Context, name string) (string, error) {
	where := ""
	err := c.call(ctx, name, "read your roles", func(ctx context.Context, clt *client.Client) error {
		roles, err := clt.GetCurrentUserRoles(ctx)
		if err != nil {
			return err
		}
		where = recordingScope(roles)
		return nil
	})
	return where, err
}

func recordingScope(roles []types.Role) string {
	where := ""
	for _, role := range roles {
		for _, rule := range role.GetRules(types.Allow) {
			named := slices.Contains(rule.Resources, types.KindSession) || slices.Contains(rule.Resources, types.Wildcard)
			lists := slices.Contains(rule.Verbs, types.VerbList) || slices.Contains(rule.Verbs, types.Wildcard)
			switch {
			case !named || !lists:
			case rule.Where == "":
				return ""
			default:
				where = rule.Where
			}
		}
	}
	return where
}

// NoRecordingError says that the cluster has no recording of a session, or not
// yet.
type NoRecordingError struct {
	ID  string
	Err error
}

func (e *NoRecordingError) Error() string { return "there is no recording of session " + e.ID }

func (e *NoRecordingError) Unwrap() error { return e.Err }

// ReadRecording shows the events of a recording, from Teleport's index from on,
// until the last one, until ctx ends or show fails. An event of a kind that the
// api module does not know is nil. Each call is an event in the cluster's audit
// log.
func (c *Cluster) ReadRecording(ctx context.Context, name, id string, from int64, show func(apievents.AuditEvent) error) error {
	if fault := c.Fault(); fault != nil && !isOutdated(fault.Err) {
		if fault = c.Check(ctx); fault != nil {
			return fault.Err
		}
	}
	clt, err := c.client(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The api client's own stream ends at the first event it does not know.
	stream, err := proto.NewAuthServiceClient(clt.GetConnection()).StreamSessionEvents(ctx, &proto.StreamSessionEventsRequest{
		SessionID: id, StartIndex: int32(from),
	})
	for err == nil {
		var one *apievents.OneOf
		if one, err = stream.Recv(); err != nil {
			break
		}
		event, unknown := apievents.FromOneOf(*one)
		if unknown != nil {
			event = nil
		}
		if err := show(event); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case trace.IsNotFound(err):
		return &NoRecordingError{ID: id, Err: plain(err)}
	default:
		return c.failed(ctx, name, c.classify(ctx, name, "read the recording", err))
	}
}
