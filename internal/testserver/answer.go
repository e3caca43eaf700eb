package testserver

// syncerVersion, with the install source "scheduler", is how Nebraska tells
// another Nebraska, which mirrors its packages, from a machine.
const syncerVersion = "CoreOSUpdateEngine-0.1.0.0"

// answer builds the answer to a request, app by app. An unknown app, track or
// architecture aborts it: the apps behind are neither processed nor mentioned.
func (s *Server) answer(req *xmlRequest, ip string) *xmlResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &xmlResponse{Protocol: "3.0", Server: "nebraska"}
	for i := range req.Apps {
		app, known := s.answerApp(req, &req.Apps[i], ip)
		resp.Apps = append(resp.Apps, app)
		if !known {
			break
		}
	}
	return resp
}

// answerApp processes one app of a request: its events in order, then its ping,
// then its check. The app's status speaks of the check alone, if there is one.
func (s *Server) answerApp(whole *xmlRequest, req *xmlAppRequest, ip string) (resp *xmlAppResponse, known bool) {
	resp = &xmlAppResponse{ID: req.ID, Status: statusOK}
	c := contact{
		appID: req.ID, app: appKey(req.ID),
		machineID: req.MachineID, alias: req.MachineAlias, ip: ip,
		version: req.Version, arch: archOf(req.Board, whole.OS.Arch),
		multipleManifestOK: req.MultiManifestOK,
		syncer:             whole.InstallSource == "scheduler" && whole.Version == syncerVersion,
	}
	c.group = s.findGroup(req.ID, req.Track, c.arch)
	if c.group == nil {
		// Even a request without a check gets an answer to one, and no <event>.
		resp.Status = statusUnknown
		resp.UpdateCheck = &xmlUpdateCheck{Status: checkError}
		return resp, false
	}
	for _, e := range req.Events {
		s.takeEvent(c, Event(e), s.now())
		resp.Events = append(resp.Events, ok())
	}
	if req.Ping != nil {
		s.register(c, s.now()) // a version that is refused shows in the check only
		status := ok()
		resp.Ping = &status
	}
	if req.UpdateCheck != nil {
		s.answerCheck(resp, c)
	}
	return resp, true
}

func (s *Server) answerCheck(resp *xmlAppResponse, c contact) {
	o := s.check(c, s.now())
	switch {
	case o.refused != "":
		resp.Status = o.refused
		resp.UpdateCheck = &xmlUpdateCheck{Status: checkError}
	case len(o.releases) == 0:
		resp.UpdateCheck = &xmlUpdateCheck{Status: checkNoUpdate}
	default:
		resp.UpdateCheck = s.offered(c, o.releases)
	}
}
