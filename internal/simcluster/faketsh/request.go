package faketsh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
)

// rootAuth connects to the root's auth service, where the requests are; the
// caller closes it.
func (t *tsh) rootAuth(ctx context.Context) (*session, *client.Client, error) {
	s, err := t.load()
	if err != nil {
		return nil, nil, err
	}
	if err := s.need(); err != nil {
		return nil, nil, err
	}
	clt, err := t.auth(ctx, s, s.root())
	return s, clt, err
}

// requestList is "tsh request ls".
func (t *tsh) requestList(ctx context.Context) error {
	s, clt, err := t.rootAuth(ctx)
	if err != nil {
		return err
	}
	defer clt.Close()
	list, err := clt.GetAccessRequests(ctx, types.AccessRequestFilter{})
	if err != nil {
		return err
	}
	me := s.profile.User
	reviewed := func(r types.AccessRequest) bool {
		return slices.ContainsFunc(r.GetReviews(), func(rev types.AccessReview) bool { return rev.Author == me })
	}
	list = slices.DeleteFunc(list, func(r types.AccessRequest) bool {
		switch {
		case t.flags.on("reviewable") && (r.GetUser() == me || reviewed(r)),
			t.flags.on("suggested") && (r.GetUser() == me || reviewed(r) || !slices.Contains(r.GetSuggestedReviewers(), me)),
			t.flags.on("my-requests") && r.GetUser() != me:
			return true
		default:
			return false
		}
	})
	if t.flags["format"] == "json" {
		return t.printRequests(list)
	}
	slices.SortFunc(list, func(a, b types.AccessRequest) int { return b.GetCreationTime().Compare(a.GetCreationTime()) })
	w := tabwriter.NewWriter(t.stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "ID\tUser\tRoles\tResources\tCreated At (UTC)\tRequest TTL\tSession TTL\tAssume Time (UTC)\tStatus")
	for _, r := range list {
		resources, err := types.ResourceIDsToString(r.GetRequestedResourceIDs())
		if err != nil {
			return err
		}
		start := ""
		if at := r.GetAssumeStartTime(); at != nil {
			start = at.UTC().Format(time.RFC822)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.GetName(), r.GetUser(), strings.Join(r.GetRoles(), ","),
			resources, r.GetCreationTime().UTC().Format(time.RFC822), time.Until(r.Expiry()).Round(time.Minute),
			time.Until(r.GetAccessExpiry()).Round(time.Minute), start, r.GetState())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprint(t.stdout, "\nhint: use 'tsh request show <request-id>' for additional details\n"+
		"      use 'tsh login --request-id=<request-id>' to login with an approved request\n")
	return err
}

// printRequests prints a list as JSON: null if it is empty, and no newline.
func (t *tsh) printRequests(list []types.AccessRequest) error {
	if len(list) == 0 {
		list = nil
	}
	out, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	_, err = t.stdout.Write(out)
	return err
}

// requestShow is "tsh request show ID".
func (t *tsh) requestShow(ctx context.Context) error {
	if len(t.words) == 0 {
		return errors.New("required argument 'request-id' not provided")
	}
	_, clt, err := t.rootAuth(ctx)
	if err != nil {
		return err
	}
	defer clt.Close()
	list, err := clt.GetAccessRequests(ctx, types.AccessRequestFilter{ID: t.words[0]})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("no access request matching %q", t.words[0])
	}
	if t.flags["format"] == "json" {
		out, err := json.MarshalIndent(list[0], "", "  ")
		if err != nil {
			return err
		}
		_, err = t.stdout.Write(out)
		return err
	}
	return t.showRequest(list[0])
}

func (t *tsh) showRequest(r types.AccessRequest) error {
	orNone := func(s string) string {
		if s == "" {
			return "[none]"
		}
		return s
	}
	reason := r.GetRequestReason()
	if reason != "" {
		reason = fmt.Sprintf("%q", reason)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "Request ID:\t%s\nUsername:\t%s\nRoles:\t%s\n", r.GetName(), r.GetUser(), strings.Join(r.GetRoles(), ", "))
	fmt.Fprintf(w, "Reason:\t%s\nReviewers:\t%s (suggested)\n", orNone(reason), orNone(strings.Join(r.GetSuggestedReviewers(), ", ")))
	fmt.Fprintf(w, "Access Expires:\t%s\n", r.GetAccessExpiry().Local().Format(time.DateTime))
	fmt.Fprintf(w, "Status:\t%s\n", r.GetState())
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(t.stdout, "\nhint: use 'tsh login --request-id=<request-id>' to login with an approved request\n")
	return err
}

// requestCreate is "tsh request create --roles=… --reason=…".
func (t *tsh) requestCreate(ctx context.Context) error {
	s, clt, err := t.rootAuth(ctx)
	if err != nil {
		return err
	}
	defer clt.Close()
	var resources []types.ResourceID
	if r := t.flags["resource"]; r != "" {
		id, err := types.ResourceIDFromString(r)
		if err != nil {
			return err
		}
		resources = append(resources, id)
	}
	if t.flags["roles"] == "" && len(resources) == 0 {
		return errors.New("at least one role or resource or a request ID must be specified")
	}
	req, err := types.NewAccessRequestWithResources(uuid.NewString(), s.profile.User, commaList(t.flags["roles"]), resources)
	if err != nil {
		return err
	}
	req.SetRequestReason(t.flags["reason"])
	req.SetSuggestedReviewers(commaList(t.flags["reviewers"]))
	fmt.Fprintln(t.stdout, "Creating request...")
	if req, err = clt.CreateAccessRequestV2(ctx, req); err != nil {
		return err
	}
	if err := t.showRequest(req); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout)
	if t.flags.on("nowait") {
		return t.printStatus(s)
	}
	if err := t.assume(ctx, s, req.GetName()); err != nil {
		return err
	}
	return t.printStatus(s)
}

func commaList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// requestReview is "tsh request review --approve|--deny ID".
func (t *tsh) requestReview(ctx context.Context) error {
	if len(t.words) == 0 {
		return errors.New("required argument 'request-id' not provided")
	}
	if t.flags.on("approve") == t.flags.on("deny") {
		return errors.New("must supply exactly one of '--approve' or '--deny'")
	}
	s, clt, err := t.rootAuth(ctx)
	if err != nil {
		return err
	}
	defer clt.Close()
	state := types.RequestState_APPROVED
	if t.flags.on("deny") {
		state = types.RequestState_DENIED
	}
	req, err := clt.SubmitAccessReview(ctx, types.AccessReviewSubmission{
		RequestID: t.words[0],
		Review:    types.AccessReview{Author: s.profile.User, ProposedState: state, Reason: t.flags["reason"]},
	})
	if err != nil {
		return err
	}
	now := req.GetState()
	if now.IsPending() || now == state {
		fmt.Fprintf(t.stderr, "Successfully submitted review.  Request state: %s\n", now)
	} else {
		fmt.Fprintf(t.stderr, "Warning: ineffectual review. Request state: %s\n", now)
	}
	return nil
}

// requestDrop is "tsh request drop [ID…]"; without an id it drops all.
func (t *tsh) requestDrop(ctx context.Context) error {
	s, err := t.load()
	if err != nil {
		return err
	}
	if err := s.need(); err != nil {
		return err
	}
	drop := slices.Clone(t.words)
	if len(drop) == 0 {
		drop = []string{"*"}
		fmt.Fprint(t.stdout, "Dropping all active access requests...\n\n")
	} else {
		fmt.Fprintf(t.stdout, "Dropping access request(s): %s...\n\n", strings.Join(drop, ", "))
	}
	certs, err := t.reissue(ctx, s, func(r *proto.UserCertsRequest) { r.DropAccessRequests = drop })
	if err != nil {
		return err
	}
	if err := s.store(certs); err != nil {
		return err
	}
	fresh, err := loadSession(s.home, s.profile)
	if err != nil {
		return err
	}
	return t.printStatus(fresh)
}
