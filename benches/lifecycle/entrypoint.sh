#!/bin/sh
# The entrypoint script that Pilotlight replaces, as it is found in the wild. What had to be mended so that it runs at
# all, and nothing more, is marked; benches/README.md says why.
IP=$(hostname -i) # mended: it was left to the reader

consul agent -data-dir=/var/lib/consul -node=$(hostname) -bind=$IP -client=0.0.0.0 -config-dir=/etc/consul -join=server-1 -join=server-2 -join=server-3 &
sleep 5
# mended: `consul services register` has no -check flags; the same values in a definition file
cat > /tmp/service.json << END
{ "service": { "name": "$SERVICE", "address": "$IP", "port": 8000,
    "check": { "http": "http://$IP:8000/health", "interval": "10s" } } }
END
consul services register /tmp/service.json
exec model-runtime serve --model /models # mended: was `python app.py`; both sides run the same worker
