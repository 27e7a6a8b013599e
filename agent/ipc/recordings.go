package ipc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// RecordingBackend is the agent's part about recorded sessions. Ids may be given
// by their beginning.
type RecordingBackend interface {
	// ListRecordings lists recordings, the sessions under way first.
	ListRecordings(ctx context.Context, q RecordingQuery) (RecordingList, error)
	// ReadRecording shows a recording part by part, as it arrives, until its end,
	// until ctx ends or show fails.
	ReadRecording(ctx context.Context, r RecordingRead, show func(RecordingPart) error) error
}

// RecordingQuery says which recordings are wanted.
type RecordingQuery struct {
	Cluster  string     // empty means every cluster
	Since    *time.Time // nil means a day ago
	Until    *time.Time // nil means now
	User     string     // empty means anyone
	Kind     string     // empty means every kind
	Host     string     // empty means anywhere
	LiveOnly bool
	Limit    int // zero means the agent's own limit
}

// RecordingList is a list of recordings.
type RecordingList struct {
	Recordings []state.Recording `json:"recordings"`
	Notes      []string          `json:"notes"` // what the list may lack, and why
	More       bool              `json:"more"`  // the limit left some out
}

// RecordingRead says which recording to read.
type RecordingRead struct {
	Cluster string // empty where the id tells
	ID      string
	From    int64 // the Seq of the first event wanted
}

// RecordingPart is what arrives of a recording at a time.
type RecordingPart struct {
	Recording *state.Recording // in the first part
	State     state.RecordingState
	Text      string // says more about the state, for a person; may be empty
	Events    []state.RecordingEvent
	Reader    string // the Teleport user who reads; in the first part
}

// recordingService is berth.v1's Recordings in terms of a RecordingBackend.
type recordingService struct {
	pb.UnimplementedRecordingsServer

	backend  RecordingBackend
	stopping <-chan struct{}
}

func (s *recordingService) List(ctx context.Context, req *pb.ListRecordingsRequest) (*pb.ListRecordingsResponse, error) {
	list, err := s.backend.ListRecordings(ctx, FromProto[RecordingQuery](req))
	if err != nil {
		return nil, err
	}
	return ToProto[pb.ListRecordingsResponse](list), nil
}

// Read sends a recording as it arrives.
func (s *recordingService) Read(req *pb.ReadRecordingRequest, stream grpc.ServerStreamingServer[pb.ReadRecordingResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer untilStopping(ctx, s.stopping, cancel)()
	err := s.backend.ReadRecording(ctx, FromProto[RecordingRead](req), func(p RecordingPart) error {
		return stream.Send(ToProto[pb.ReadRecordingResponse](p))
	})
	if stream.Context().Err() == nil && errors.Is(err, context.Canceled) {
		return errStopping
	}
	return err
}
