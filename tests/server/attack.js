// Everything a page can try against another origin; says how each attempt ended.
async ([target, marks]) => {
  const outcome = {};
  const within = (promise) => Promise.race([promise, new Promise(r => setTimeout(r, 5000, 'silence'))]);
  const ask = (name, path, options) => within(fetch(target + path, options).then(
      async r => { outcome[name] = r.type === 'opaque' ? 'opaque' : `read ${r.status}`; },
      () => { outcome[name] = 'refused'; }));
  const json = {method: 'POST', headers: {'content-type': 'application/json'}};
  const text = {method: 'POST', headers: {'content-type': 'text/plain'}};
  const body = name => JSON.stringify({name, value: 'set by a foreign page'});
  await Promise.all([
    ask('get', '/api/flows/filter', {}),
    ask('settings', '/ui-settings', {}),
    ask('own api', '/ff/v1/status', {}),
    ask('ready', '/ready', {}),
    ask('credentials', '/api/admin/settings', {credentials: 'include'}),
    ask('json', '/api/variables/', {...json, body: body(marks[0])}),
    ask('text', '/api/variables/', {...text, body: body(marks[1])}),
    ask('no-cors', '/api/variables/', {...text, mode: 'no-cors', body: body(marks[2])}),
    ask('bare', '/api/variables/', {method: 'POST', mode: 'no-cors', body: new Blob([body(marks[3])])}),
    ask('no-cors get', '/api/admin/version', {mode: 'no-cors'}),
    within(new Promise(done => {
      const socket = new WebSocket(target.replace('http', 'ws') + '/api/events/in');
      socket.onopen = () => { outcome.socket = 'open'; done(); };
      socket.onerror = () => { outcome.socket = 'refused'; done(); };
    })),
    within(new Promise(done => {
      const image = new Image();
      image.onload = () => { outcome.image = 'shown'; done(); };
      image.onerror = () => { outcome.image = 'refused'; done(); };
      image.src = target + '/v2/ico/favicon-32x32.png';
    })),
    within(new Promise(done => {
      const script = document.createElement('script');
      script.onload = () => { outcome.script = 'ran'; done(); };
      script.onerror = () => { outcome.script = 'refused'; done(); };
      script.src = target + '/api/version';
      document.head.append(script);
    })),
    within(new Promise(done => {
      const form = document.createElement('form');
      const frame = document.createElement('iframe');
      frame.name = 'hidden'; frame.onload = () => done(); document.body.append(frame);
      form.method = 'POST'; form.enctype = 'text/plain'; form.target = 'hidden';
      form.action = target + '/api/variables/';
      const field = document.createElement('input');
      field.name = '{"name": "' + marks[4] + '", "value": "'; field.value = '"}';
      form.append(field); document.body.append(form); form.submit();
    })),
  ]);
  return outcome;
}
